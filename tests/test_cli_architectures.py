import json

import pytest

V2 = ("--arch", "DARTS_V2", "--channels", 36, "--cells", 20, "--classes", 10)


def test_info_counts_the_official_network(ldarts):
    code, out, _ = ldarts("info", *V2, "--json")
    assert code == 0
    found = json.loads(out)
    assert found.keys() == {"parameters", "multiply_adds"}
    assert found["parameters"] == 3_349_342
    assert "3,349,342" in ldarts("info", *V2)[1]


def test_the_network_is_that_of_the_recipe(ldarts):
    cifar = json.loads(ldarts("info", "--arch", "DARTS_V2", "--json")[1])
    assert cifar == json.loads(ldarts("info", *V2, "--json")[1])
    small = json.loads(ldarts("info", "--arch", "DARTS_V2", "--recipe", "cifar-small", "--json")[1])
    imagenet = json.loads(ldarts("info", "--arch", "DARTS_V2", "--recipe", "imagenet", "--json")[1])
    assert small["parameters"] < cifar["parameters"] < imagenet["parameters"]
    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|"
    assert json.loads(ldarts("info", "--arch", cell, "--json")[1])["parameters"] > 500_000


def test_info_lists_the_published_architectures(ldarts):
    out = ldarts("info", "--published")[1]
    assert "lambdadarts_corr_3" in out
    assert "quark0/darts" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json",), "go with --arch"),
        (("--arch", "DARTS_V9"), "unknown architecture 'DARTS_V9'"),
        (("--arch", "DARTS_V2_ptb"), "depends on its text"),
        (
            ("--arch", f"Genotype(normal={[('skip_connect', 0)] * 2})"),
            "has no reduction cell: write Genotype(",
        ),
        (("--arch", "DARTS_V2", "--channels", 0), "--channels 0: expected at least 1"),
        (("--arch", "DARTS_V2", "--resolution", 30), "--resolution 30: images of 30 pixels"),
        (
            ("--arch", "DARTS_V2", "--recipe", "nasbench201"),
            "--recipe nasbench201: DARTS_V2 is no architecture",
        ),
    ],
)
def test_bad_questions_are_named(ldarts, arguments, message):
    code, _, err = ldarts("info", *arguments)
    assert code == 2
    assert message in err


def test_evaluate_trains_and_goes_on(ldarts, tmp_path):
    arguments = ("evaluate", "DARTS_V2", "--recipe", "cifar-small", "--dataset", "digits", "--size", "smoke")
    options = ("--epochs", 1, "--set", "images", 32, "--device", "cpu", "--out", tmp_path / "run")
    code, out, _ = ldarts(*arguments, *options)
    assert code == 0
    assert "test accuracy" in out
    assert (tmp_path / "run" / "metrics.json").exists()
    again = ldarts(*arguments, *options)[1]
    assert again == out
    code, _, err = ldarts(*arguments, *options, "--seed", 4)
    assert code == 2
    assert "another protocol (seed: 0 → 4)" in err


def test_evaluate_refuses_what_does_not_fit(ldarts, tmp_path):
    code, _, err = ldarts("evaluate", "DARTS_V2", "--recipe", "ptb", "--out", tmp_path / "run")
    assert code == 2
    assert "choose one of cifar" in err
    code, _, err = ldarts("evaluate", "DARTS_V2", "--set", "droppath", 3, "--out", tmp_path / "run")
    assert code == 2
    assert "unknown setting 'droppath'" in err

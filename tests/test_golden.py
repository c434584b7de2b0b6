import json

import pytest

import golden

RECORD = golden.read_record()


def test_the_record_has_every_golden_run():
    assert list(RECORD["runs"]) == list(golden.CASES)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden.CASES)
def test_a_golden_run_gives_what_is_recorded(name, tmp_path, one_thread):
    recorded, found = RECORD["runs"][name], golden.CASES[name](folder=tmp_path)
    if golden.machine() == RECORD["machine"]:
        assert golden.differences(recorded, found) == []
    else:
        expected = golden.first_losses(recorded)
        assert golden.first_losses(found) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_differences_are_named_and_what_is_new_is_none():
    before = {"history": {"loss": [1.0, 2.0], "seconds": [1.0, 1.0]}, "genotype": "a"}
    assert golden.differences(before, json.loads(json.dumps(before))) == []
    after = {"history": {"loss": [1.0, 2.5], "entropy": [0.0, 0.0]}}
    assert golden.differences(before, after) == ["/genotype is missing", "/history/loss/1: 2.0 → 2.5"]


def test_runs_of_two_folders_are_compared(tmp_path):
    for name, value in {"before/one": 1, "after/one": 2, "after/two": 1}.items():
        (tmp_path / name).mkdir(parents=True)
        for file in ("config", "genotype", "metrics"):
            (tmp_path / name / f"{file}.json").write_text(json.dumps({"value": value}))
    found = golden.compare_grids(tmp_path / "before", tmp_path / "after")
    assert found == [f"/one/{file}/value: 1 → 2" for file in ("config", "genotype", "metrics")] + [
        "two is new"
    ]
    with pytest.raises(SystemExit, match="no finished run"):
        golden.compare_grids(tmp_path / "before", tmp_path / "nowhere")

"""What a training left, in use: loaded, asked about pictures, exported."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.transforms.functional import to_pil_image

from classfolders import class_folders, write_pictures
from ldarts_lib import evaluate, load_images, published, trained_network
from ldarts_lib.errors import LdartsError, RunError
from ldarts_lib.evaluation import export as exporting
from ldarts_lib.evaluation.export import export
from ldarts_lib.evaluation.protocols import training_protocol
from ldarts_lib.files import write_json
from ldarts_lib.runs.directory import Run
from ldarts_lib.spaces.notations import parse

CELL = parse("|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
NOISY = parse("|noise~0|+|none~0|noise~1|+|none~0|none~1|noise~2|")
TINY = {"size": "smoke", "epochs": 1, "images": 32, "batch_size": 16, "channels": 4}


def train(out, cell=CELL, dataset=None, **settings):
    recipe = "nasbench201" if cell.kind == "nasbench201" else "cifar-small"
    protocol = training_protocol("mine", cell, "digits", recipe, **TINY | settings)
    return evaluate(protocol, out, device="cpu", dataset=dataset, progress=False)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A finished training of a NAS-Bench-201 cell, on images of one channel, and these."""
    out, images = tmp_path_factory.mktemp("stages") / "run", load_images("digits")
    return out, train(out, depth=1, learning_rate=0.2), images


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A finished training of a DARTS cell with an auxiliary head, on images in colours that are resized."""
    out, digits = tmp_path_factory.mktemp("chain") / "run", load_images("digits")
    tint = torch.tensor([1, 0.5, 0.2]).view(1, 3, 1, 1)
    few = {name: tint * getattr(digits, name) for name in ("search_images", "test_images", "mean")}
    images = replace(digits, **few, std=digits.std.expand(1, 3, 1, 1))
    return out, train(out, published("DARTS_V2"), images, depth=2), images


@pytest.fixture(params=["stages", "chain"])
def family(request):
    return request.getfixturevalue(request.param)


def test_the_trained_network_reaches_the_test_accuracy(family):
    out, found, images = family
    network = trained_network(out)
    assert not network.training and network.network.auxiliary is None
    hits = network(images.test_images[:32]).argmax(-1) == images.test_labels[:32]
    assert hits.float().mean().item() == found["test_accuracy"]
    assert (network.channels, network.size, len(network.class_names)) == (images.channels, 8, 10)


def outputs(network):
    """Logits of one and of seven images."""
    images = [torch.rand(batch, network.channels, 8, 8) for batch in (1, 7)]
    return images, [network(batch).detach() for batch in images]


def assert_same(found, expected):
    torch.testing.assert_close([*found], expected, rtol=0, atol=1e-5)


def test_a_program_and_its_weights_are_the_network_and_need_nothing_of_ours(chain, tmp_path, monkeypatch):
    network = trained_network(out := chain[0])
    program, weights = (export(out, tmp_path / "new" / name) for name in ("model.pt2", "w.safetensors"))
    batches, expected = outputs(network)
    facts = dict.fromkeys(network.metadata, "")
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("ldarts_")]:
            patch.setitem(sys.modules, name, None)
        module = torch.export.load(program, extra_files=facts).module()
        assert_same(map(module, batches), expected)
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.load_state_dict(load_file(weights))
        assert_same(map(module, batches), expected)
    with safe_open(weights, "pt") as file:
        assert file.metadata() == {"format": "pt", **facts} == {"format": "pt", **network.metadata}
    assert json.loads(facts["class_names"]) == [str(digit) for digit in range(10)]
    assert (facts["size"], facts["channels"]) == ("8", "3")
    assert "[batch, 3, 8, 8], float32 in 0..1" in facts["input"]
    assert json.loads(facts["network"])["genotype"] == Run(out).read_json("genotype.json")["genotype"]
    assert str(exporting.__file__).encode() not in program.read_bytes()


ONNX = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
[images] = session.get_inputs()
assert images.shape[0] == "batch" and images.type == "tensor(float)", images
batches = numpy.load(sys.argv[2])
found = {name: session.run(["logits"], {"images": batches[name]})[0] for name in batches}
numpy.savez(sys.argv[3], **found)
assert not [name for name in sys.modules if name.startswith(("torch", "ldarts"))]
print(session.get_modelmeta().custom_metadata_map["class_names"])
"""


@pytest.mark.slow
def test_an_onnx_file_is_the_network(family, tmp_path):
    model = export(family[0], tmp_path / "model.onnx")
    batches, expected = outputs(trained_network(family[0]))
    np.savez(tmp_path / "in.npz", *[batch.numpy() for batch in batches])
    command = [sys.executable, "-c", ONNX, *(tmp_path / name for name in ("model.onnx", "in.npz", "out.npz"))]
    assert json.loads(subprocess.check_output(command)) == [str(digit) for digit in range(10)]
    assert_same(map(torch.from_numpy, np.load(tmp_path / "out.npz").values()), expected)
    assert b"ldarts_lib" not in model.read_bytes()


class Branching(torch.nn.Module):
    """What torch cannot trace."""

    def forward(self, x):
        return x if x.mean() > 0 else -x


def test_what_cannot_be_exported_is_named_in_one_line(stages, tmp_path, monkeypatch, capfd):
    (older := tmp_path / "w.safetensors").write_text("older")
    network = trained_network(stages[0])
    network.network = torch.nn.Sequential(network.network, Branching())

    def refused(to, message):
        with pytest.raises(LdartsError, match=message) as error:
            export(stages[0], tmp_path / to)
        assert "\n" not in str(error.value) and capfd.readouterr().err == ""
        assert [*tmp_path.iterdir()] == [older] and older.read_text() == "older"

    refused("w.safetensors/w.safetensors", "cannot make the directory .*: File exists")
    refused("model.pb", r"'\.pb'; choose one of \.onnx, \.pt2, \.safetensors")
    for package, name in (("onnxruntime", "model.onnx"), ("safetensors.torch", "w.safetensors")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            refused(name, rf'{package} is not installed: pip install "ldarts-lib\[export\]"')
    far = Mock(return_value=(b"", lambda images: trained_network(stages[0])(images) + 1e-4))
    with monkeypatch.context() as patch:
        patch.setitem(exporting._FORMATS, ".safetensors", far)
        refused("w.safetensors", r"is not written: its logits differ by 0\.0001")
    monkeypatch.setattr(exporting, "trained_network", lambda _: network)
    said = r"\.pt2 \(\w+: Could not guard on data-dependent .*\); weights\.safetensors holds"
    refused("model.pt2", f"cannot be written as {said}")
    monkeypatch.setattr(exporting, "_TORCH", "99")
    old = TypeError("unexpected argument 'dynamo'\nTraceback")
    monkeypatch.setitem(exporting._FORMATS, ".onnx", Mock(side_effect=old))
    refused("model.onnx", r"unexpected argument 'dynamo'\); torch is .*, exporting needs 99: pip install")
    network.genotype = NOISY
    refused("model.pt2", "noise draws random numbers")


SEARCH = {"space": "s2", "dataset": "cifar10", "method": "darts"}
TRAINING = {"recipe": "cifar", "dataset": "digits", "epochs": 3, "genotype": str(CELL)}
REFUSED = {
    "nothing": (None, "is no run directory: expected that of a finished `ldarts evaluate`"),
    "search": (SEARCH, r"not trained yet: `ldarts evaluate '.*/a run' --dataset cifar10` trains it"),
    "unfinished": (TRAINING, r"has 0 of 3 epochs: repeat `ldarts evaluate X --out 'my run'` to finish it"),
    "language": ({"recipe": "ptb", "bptt": 35, "dataset": "civics"}, "of a language model"),
    "look-up": (TRAINING | {"recipe": "lookup"}, "of a look-up, which trains nothing"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_finished_training_of_images_says_what_to_do(kind, tmp_path):
    config, message = REFUSED[kind]
    (run := tmp_path / "a run").mkdir()
    if config:
        write_json(run / "config.json", config)
        write_json(run / "environment.json", {"command": ["bin/ldarts", "evaluate", "X", "--out", "my run"]})
    with pytest.raises(RunError, match=message):
        trained_network(run)


def test_a_training_without_its_images_is_read_and_without_its_weights_refused(stages, tmp_path):
    out = shutil.copytree(stages[0], tmp_path / "run")
    (out / "images.json").unlink()
    assert trained_network(out).metadata == trained_network(stages[0]).metadata
    saved = Run(out).read_checkpoint()
    saved["network"]["macro.stem.0.weight"][0] = float("nan")
    Run(out).write_checkpoint(saved)
    with pytest.raises(RunError, match="diverged"):
        trained_network(out)
    (out / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match=r"has no checkpoint\.pt"):
        trained_network(out)


def test_the_commands_export_and_predict(stages, ldarts, tmp_path):
    out, target, rows = stages[0], tmp_path / "w.safetensors", tmp_path / "new" / "found.csv"
    assert ldarts("export", out, "--to", target)[1].endswith(f"written: {target}\n") and target.exists()
    digits = tmp_path / "some" / "digits"
    digits.mkdir(parents=True)
    for number, image in enumerate(stages[2].test_images[:3]):
        to_pil_image(image).save(digits / f"{number}.png")
    (digits / ".hidden").write_text("no picture")
    (digits / "bad.png").write_bytes(b"no picture")
    pictures = digits.parent, tmp_path / "nowhere.png"
    code, text, error = ldarts("predict", out, *pictures, "--csv", rows, "--device", "cpu")
    assert code == 2 and text.count("%") == 3 and str(digits / "2.png") in text
    assert "2 of 5 pictures cannot be read" in error and "bad.png" in error and "nowhere.png" in error
    found = list(csv.DictReader(rows.read_text().splitlines()))
    assert [row["picture"] for row in found] == [str(digits / f"{number}.png") for number in range(3)]
    assert all(0.1 <= float(row["probability"]) <= 1 and row["class"] in "0123456789" for row in found)


def test_predictions_on_the_test_pictures_are_the_test_accuracy(ldarts, tmp_path):
    """Of pictures in two parts that are decoded to another size; the folder of the training has moved."""
    folder, out = tmp_path / "pictures", tmp_path / "run"
    class_folders(folder / "train"), class_folders(folder / "test", "abc", 7, size=15)
    write_pictures(folder / "test" / "a", 8, "b", "jpg")  # so that some are wrong
    options = ("--set", "channels", 4, "--set", "batch_size", 15, "--set", "learning_rate", 0.2, "--out", out)
    told = ("--dataset", folder, "--pixels", 8, "--size", "smoke", "--epochs", 4, "--device", "cpu")
    assert ldarts("evaluate", str(CELL), *told, *options)[0] == 0
    moved, rows = folder.rename(tmp_path / "moved") / "test", tmp_path / "found.csv"
    code, _, error = ldarts("predict", out, moved, "--csv", rows, "--device", "cpu")
    assert code == 0, error
    found = list(csv.DictReader(rows.read_text().splitlines()))
    right = sum(row["class"] == Path(row["picture"]).parent.name for row in found) / len(found)
    assert len(found) == 29 and right == pytest.approx(Run(out).read_json("metrics.json")["test_accuracy"])

"""What the chapter on one's own pictures and spaces begins with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import torch
from torch import nn

from ldarts_book import yours
from ldarts_lib import SPACES, load_images
from ldarts_lib.spaces.definition import read_space
from ldarts_lib.spaces.genotype import REGISTERED


def test_digits_are_written_as_pictures_of_their_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    folder = yours.write_digits(tmp_path / "digits", 200)
    assert len([*folder.glob("[0-9]/*.png")]) == 200
    images, shipped = load_images(str(folder), pixels=8, flip=False), load_images("digits")
    assert images.class_names == tuple("0123456789")
    bytes_of = (255 * shipped.search_images[:200]).byte().flatten(1).tolist()
    truth = {tuple(image): label for image, label in zip(bytes_of, shipped.search_labels, strict=False)}
    for image, label in zip(images.test_images, images.test_labels, strict=True):
        assert truth[tuple(image.flatten().tolist())] == label


def test_the_space_has_an_operation_that_weighs_channels(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    space = read_space(yours.write_space(tmp_path))
    assert space.name not in SPACES and space.cells["normal"].shape == (3, 4)
    assert REGISTERED["squeeze"] == "my_operations"
    weigh = sys.modules["my_operations"].Squeeze(3, stride=2)
    nn.init.zeros_(weigh.weigh[1].weight)
    nn.init.constant_(weigh.weigh[1].bias, 0)
    assert torch.equal(weigh(torch.full((1, 3, 4, 4), 2.0)), torch.ones(1, 3, 2, 2))  # σ(0) = 1/2


def test_a_guess_names_the_truth_where_it_errs():
    class Always(nn.Module):
        class_names = tuple("abcdefghij")

        def forward(self, images):
            return torch.eye(10)[7].log().expand(len(images), 10)

    images = load_images("digits")
    for said, label in zip(yours.guesses(Always(), images, 9), images.test_labels, strict=False):
        assert said == "h 100%" + ("" if label == 7 else f"\nnot {'abcdefghij'[label]}")


def test_a_remedy_is_added_by_two_files(repository, tmp_path):
    """Those that the chapter shows, to a copy of the library."""
    remedies = tmp_path / "ldarts_lib/bilevel/remedies"
    shutil.copytree(repository / "ldarts_lib", tmp_path / "ldarts_lib", ignore=lambda *_: {"__pycache__"})
    cells = json.loads((repository / "book/yours.ipynb").read_text())["cells"]
    text = "".join(line for cell in cells for line in cell["source"])
    module, line = re.findall(r"```python\n(.*?)```", text, re.S)
    table = (remedies / "table.py").read_text().replace("] = {\n", "] = {\n" + line)
    (remedies / "cooled.py").write_text(module)
    (remedies / "table.py").write_text("from ldarts_lib.bilevel.remedies.cooled import Cooled\n" + table)
    code = """if True:
        import torch
        from ldarts_lib.bilevel.packed import can_pack
        from ldarts_lib.bilevel.protocols import protocol
        from ldarts_lib.bilevel.remedies import described
        settings = protocol(method="cooled", tau_last="0.5")
        alpha = torch.eye(3)
        p = settings.new_remedy().weights({"normal": alpha}, None, 1.0)["normal"]
        assert torch.equal(p, (2 * alpha).softmax(-1)) and can_pack(settings)
        assert described()["cooled"][0] == "Cooled DARTS"
    """
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

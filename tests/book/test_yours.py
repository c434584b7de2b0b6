"""What the chapters of the part "Yours" begin with: pictures, and files that they write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files

import nbformat
import pandas as pd
import pytest
import torch
from torch import nn

from ldarts_book import own_images
from ldarts_book.notebook import NotebookFailed, notebook_parameters, shell
from ldarts_lib import SPACES, load_images, parse, protocol
from ldarts_lib.evaluation.standalone import standalone_accuracy
from ldarts_lib.spaces.definition import read_space
from ldarts_lib.spaces.genotype import REGISTERED


def written(repository, page, folder):
    """The files that the cells of a page write, executed with a folder of results."""
    cells = nbformat.read(repository / f"book/{page}.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if ".write_text(" in cell.source]
    exec("\n".join(code), {"folder": folder, "shutil": shutil, "files": files})


def test_digits_are_written_as_pictures_of_their_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    folder = own_images.write_digits(tmp_path / "digits", 200)
    assert len([*folder.glob("[0-9]/*.png")]) == 200
    images, shipped = load_images(str(folder), pixels=8, flip=False), load_images("digits")
    assert images.class_names == tuple("0123456789")
    bytes_of = (255 * shipped.search_images[:200]).byte().flatten(1).tolist()
    truth = {tuple(image): label for image, label in zip(bytes_of, shipped.search_labels, strict=False)}
    for image, label in zip(images.test_images, images.test_labels, strict=True):
        assert truth[tuple(image.flatten().tolist())] == label


def test_an_answer_names_the_truth_where_it_errs():
    class Always(nn.Module):
        class_names = tuple("abcdefghij")

        def forward(self, images):
            return torch.eye(10)[7].log().expand(len(images), 10)

    images = load_images("digits")
    said = own_images.asked(Always(), images)
    assert said["right"].tolist() == (images.test_labels == 7).tolist()
    for text, label in zip(own_images.captions(said), images.test_labels, strict=True):
        assert text == "h 100%" + ("" if label == 7 else f"\nnot {'abcdefghij'[label]}")


def test_the_space_has_an_operation_that_weighs_channels(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    written(repository, "own_space", tmp_path)
    space = read_space(tmp_path / "my_space.yaml")
    assert space.name not in SPACES and space.cells["normal"].shape == (3, 4)
    assert REGISTERED["squeeze"] == "my_operations"
    weigh = sys.modules["my_operations"].Squeeze(3, stride=2)
    nn.init.zeros_(weigh.weigh[1].weight)
    nn.init.constant_(weigh.weigh[1].bias, 0)
    assert torch.equal(weigh(torch.full((1, 3, 4, 4), 2.0)), torch.ones(1, 3, 2, 2))  # σ(0) = 1/2


def test_a_remedy_is_added_by_two_files(repository, tmp_path):
    """Those that the chapter writes, to a copy of the library."""
    written(repository, "own_remedy", tmp_path)
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
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "copy", check=True)


def test_a_command_is_shown_with_what_it_says(tmp_path, capsys):
    shell("ls; ldarts --version 2> /dev/null; pwd", tmp_path)
    assert capsys.readouterr().out == f"$ ls; ldarts --version 2> /dev/null; pwd\n{tmp_path}\n"
    with pytest.raises(NotebookFailed, match=r"^ldarts nothing: "):
        shell("ldarts nothing")


def test_what_is_recorded_belongs_to_the_pictures_that_are_shown(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    images = load_images(str(own_images.write_digits(tmp_path / "digits", 1000)), pixels=8, flip=False)
    said = own_images.predicted()
    assert said["truth"].tolist() == [images.class_names[label] for label in images.test_labels]
    assert (said["right"] == (said["guess"] == said["truth"])).all()


@pytest.mark.slow
def test_the_worth_of_the_operation_can_be_recorded_again(repository, tmp_path, monkeypatch):
    """Another machine rounds otherwise, so within the noise of one training."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    written(repository, "own_space", tmp_path)
    recorded = pd.read_csv(repository / "data/recorded/yours/operations.csv").set_index("operation")
    settings = protocol(str(tmp_path / "my_space.yaml"), "noisy-digits", "lambda", "demo")
    found = standalone_accuracy(parse(recorded["cell"]["squeeze"]), settings, load_images("noisy-digits"))
    assert found == pytest.approx(recorded["accuracy"]["squeeze"], abs=0.08)


def test_of_a_notebooks_parameters_a_shell_gets_numbers_and_choices(repository):
    """What a reader types freely is no part of a command."""
    for path in (repository / "book").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        if any("shell(" in source for source in cells):
            fields = notebook_parameters(path).model_fields
            free = {name for name, field in fields.items() if field.annotation is str}
            assert "out" in free and "size" not in free
            assert not [source for source in cells if any(f"{{{name}}}" in source for name in free)]

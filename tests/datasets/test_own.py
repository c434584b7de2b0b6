"""Pictures of one's own in searches, trainings and grids: what follows from them, and what is recorded."""

import json
import re

import pytest

from classfolders import class_folders, write_pictures
from ldarts_book.grid.evaluations import judge
from ldarts_book.grid.grid import GridError, read_grid
from ldarts_lib.bilevel.presets import own_epochs
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.search import SearchResult, search
from ldarts_lib.bilevel.state import SearchState
from ldarts_lib.datasets import images
from ldarts_lib.datasets.images import load_images
from ldarts_lib.errors import DatasetCorrupt, ProtocolError

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sixty pictures of three classes; twelve are for the test."""
    images._say.cache_clear()
    monkeypatch.setenv("LDARTS_DATA", str(tmp_path / "data"))
    return class_folders(tmp_path / "mine", count=20)


@pytest.mark.parametrize("pictures", [130, 1000, 1600, 9600, 1_200_000])
@pytest.mark.parametrize("more", [{}, {"batch_size": "16"}, {"split": 0.25}])
def test_a_demo_has_640_steps_whatever_the_number_of_pictures(pictures, more):
    found = own_epochs(pictures, more)
    assert found["epochs"] * found["epoch_steps"] == 640 and found["epochs"] >= 8
    one_pass = pictures * more.get("split", 0.5) / int(more.get("batch_size", 64))
    assert found["epoch_steps"] <= one_pass + 1


def test_the_settings_of_a_folder(folder, capsys):
    chosen = protocol(dataset=str(folder), batch_size=8, pixels="8")
    assert not capsys.readouterr().out, "settings may be printed to a file"
    assert (chosen.dataset, chosen.pixels, chosen.pictures, chosen.flip) == ("mine", 8, 48, True)
    assert (chosen.epochs, chosen.epoch_steps) == (320, 2)
    assert SearchState(chosen, load_images(str(folder), pixels=8)).steps == 2
    assert chosen.changed == "pixels = 8, batch_size = 8"
    told = json.loads(chosen.model_dump_json())
    assert told["fingerprint"] == load_images(str(folder)).fingerprint and str(folder) not in told.values()
    assert type(chosen).model_validate_json(chosen.model_dump_json()).fingerprint == chosen.fingerprint


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("mine", {"pixels": 30}, "pixels = 30: Input should be a multiple of 4"),
        ("mine", {"channels_in": 2}, "channels_in = 2: Input should be 1 or 3"),
        ("mine", {"colour": 3}, "unknown setting 'colour'"),
        ("digits", {"pixels": 16, "flip": False}, "pixels, flip: only for a folder of pictures"),
        ("nowhere", {}, "unknown dataset 'nowhere'; .* noisy-digits, .*, or a folder with one"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_decoded(
    folder, tmp_path, monkeypatch, dataset, settings, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProtocolError, match=message):
        protocol(dataset=dataset, **settings)
    assert not (tmp_path / "data").exists()


def test_from_a_folder_to_a_trained_cell(folder, tmp_path, monkeypatch, ldarts):
    """The cell is trained on the folder of its search, seen alike; other pictures are said to be others."""
    monkeypatch.chdir(tmp_path)
    tiny = ["--size", "smoke", "--epochs", 1, "--set", "channels", 2, "--set", "batch_size", 12]
    code, printed, error = ldarts("search", "--dataset", "mine", "--pixels", 8, *tiny, "--out", "run")
    assert code == 0, error
    assert "mine: there is no test part; 12 of 60 pictures" in printed
    told = json.loads((tmp_path / "run/images.json").read_text())
    assert (told["class_names"], told["channels"], told["size"]) == (["a", "b", "c"], 3, 8)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["dataset"], config["fingerprint"]) == ("mine", told["fingerprint"])
    before = SearchResult.read("run").history
    (tmp_path / "new").mkdir()
    folder = folder.rename(tmp_path / "new" / "mine")
    small = {"size": "smoke", "pixels": 8, "epochs": 1, "channels": 2, "batch_size": 12}
    again = search(protocol(dataset=str(folder), **small), "run", progress=False)
    assert again.history == before, "a moved folder is the same"
    folder.rename(tmp_path / "mine")
    code, printed, error = ldarts("evaluate", "run", *tiny)
    assert code == 0 and "not those of the search" not in printed, error
    (found,) = (tmp_path / "runs").iterdir()
    config = json.loads((found / "config.json").read_text())
    assert (config["dataset"], config["pixels"], config["resolution"]) == ("mine", 8, None)
    write_pictures(tmp_path / "mine" / "c", 21)
    code, printed, _ = ldarts("evaluate", "run", "--dataset", "mine", *tiny, "--out", "other")
    change = r"pictures of mine \(fingerprint \w+\) are not those of the search"
    assert code == 0 and re.search(change, printed)


def test_pictures_that_changed_since_the_protocol_was_made_are_refused(folder, tmp_path):
    chosen = protocol(dataset=str(folder), size="smoke", batch_size=8)
    write_pictures(folder / "c", 22)
    with pytest.raises(DatasetCorrupt, match=r"mine have changed \(fingerprint \w+, now \w+\)"):
        search(chosen, tmp_path / "run")


def test_a_training_sees_all_pictures_as_large_as_they_are(folder, tmp_path):
    small = {"pixels": 8, "channels": 2, "epochs": 1, "batch_size": 12, "progress": False, "device": "cpu"}
    found = judge(CELL, str(folder), "nasbench201", "demo", 0, tmp_path / "run", **small)
    assert found["dataset"] == "mine" and "pixels = 8" in found["changed"]
    assert "resolution" not in found["changed"]
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["images"] is None and config["pictures"] == 48


def test_a_grid_names_folders(folder, tmp_path):
    text = (
        "size: smoke\nparts:\n  one:\n    spaces: [nasbench201]\n    datasets: [{0}]\n    methods: [darts]\n"
        "    seeds: [0]\n    evaluations:\n    - {{recipe: nasbench201}}\n"
        "    - {{recipe: lookup, datasets: [noisy-digits]}}\n"
    )
    (tmp_path / "grid.yaml").write_text(text.format(folder))
    jobs = read_grid(tmp_path / "grid.yaml").jobs()
    names = ("search", "nasbench201-mine", "lookup-noisy-digits")
    assert [job.directory for job in jobs] == [f"nasbench201/mine/darts/seed0/{name}" for name in names]
    assert jobs[0].identity["dataset"] == "mine" and jobs[0].parameters(tmp_path)["dataset"] == str(folder)
    (tmp_path / "grid.yaml").write_text(text.format(tmp_path / "nowhere"))
    with pytest.raises(GridError, match=r"line 5, parts.one.datasets.0.: .*nowhere' is no data set"):
        read_grid(tmp_path / "grid.yaml")

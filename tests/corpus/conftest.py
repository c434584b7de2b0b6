"""Small run directories, made once, of which each case damages a copy."""

import contextlib
import io
import shutil
import sys

import pytest

from ldarts_lib import cli
from runfolders import SEARCHING, TRAINING


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A finished search, one without its outcome yet, one in another space, a training."""
    folder = tmp_path_factory.mktemp("made")
    ways = {"search": SEARCHING, "other": (*SEARCHING, "--space", "s2", "--epochs", 1), "training": TRAINING}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        for name, way in ways.items():
            patch.setattr(sys, "argv", ["ldarts", *map(str, way), "--out", str(folder / name)])
            cli.main()
    shutil.copytree(folder / "search", folder / "stopped")
    for name in ("metrics.json", "genotype.json"):
        (folder / "stopped" / name).unlink()
    return folder


@pytest.fixture
def copy_of(made, tmp_path, monkeypatch):
    """Copies of these directories, in a working directory that is empty otherwise."""
    monkeypatch.chdir(tmp_path)

    def copied(name):
        shutil.copytree(made / name, tmp_path / "run")
        return tmp_path / "run"

    return copied

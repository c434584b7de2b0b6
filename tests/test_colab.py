"""What Colab's image holds stays as it is when the library is installed there: its kernel runs meanwhile."""

from __future__ import annotations

import importlib
import json
import tomllib
from datetime import date
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGE = Path(__file__).with_name("colab.txt")
ENVIRONMENT = {"python_version": "3.13", "python_full_version": "3.13.0", "extra": ""}


@pytest.fixture(scope="module")
def requirements(repository: Path) -> list[str]:
    """What the notebooks install, and what exporting needs beyond that."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["export"]]


@pytest.fixture(scope="module")
def image() -> dict[str, str]:
    lines = [line.split("==") for line in IMAGE.read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in lines}


def conflicts(requirements: list[str], image: dict[str, str]) -> list[str]:
    """What a requirement, or one of a package that it brings along, would replace in the image."""
    found, left, seen = [], [("this project", text) for text in requirements], set()
    while left:
        whose, text = left.pop()
        asked = Requirement(text)
        name = canonicalize_name(asked.name)
        if asked.marker and not asked.marker.evaluate(ENVIRONMENT):
            continue
        if name in image:  # with what it brings along
            if image[name] not in asked.specifier:
                found.append(f"{whose} asks for {asked.name}{asked.specifier}, the image has {image[name]}")
        elif name not in seen:
            seen.add(name)
            left += [(name, more) for more in metadata.requires(name) or ()]
    return found


def test_the_requirements_leave_the_image_as_it_is(requirements, image):
    assert {"ipykernel", "ipywidgets", "jupyter-client", "torch", "numpy", "tornado", "pyzmq"} <= {*image}
    snakemake = "snakemake>=9"  # as the README says; the newest plug-in for Slurm needs pandas 3
    assert conflicts([*requirements, snakemake], image) == []
    (found,) = conflicts([*requirements, "ipykernel>=6.29"], image)
    assert found == "this project asks for ipykernel>=6.29, the image has 6.17.1"


def test_the_recorded_check_ran_every_notebook_with_these_packages(repository, image):
    record = json.loads((repository / "data" / "recorded" / "colab" / "check.json").read_text())
    assert [*record["seconds"]] == sorted(path.name for path in (repository / "book").glob("*.ipynb"))
    assert "failed" not in record["seconds"].values() and record["versions"]["python"].startswith("3.13.")
    versions = record["versions"].items()
    held = {canonicalize_name(name): version.partition("+")[0] for name, version in versions}
    assert len(held.items() & image.items()) == len(held) - 2  # all but Python and papermill
    assert f"with its packages on {record['date']}" in (repository / "README.md").read_text(encoding="utf-8")


def test_a_newer_list_of_packages_is_taken_over(repository, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    newest_image = importlib.import_module("newest_image")
    copy, listed = tmp_path / "colab.txt", tmp_path / "freeze.txt"
    copy.write_text(before := IMAGE.read_text())
    packages = dict(line.split("==") for line in before.splitlines() if "==" in line)
    lines = [f"{name}=={version}" for name, version in packages.items() if name not in ("torch", "tqdm")]
    listed.write_text("\n".join(["other==1.0", *lines, "tqdm==5.1"]))
    with pytest.raises(SystemExit, match=r"no version of torch; colab\.txt stays"):
        newest_image.main(str(listed), copy)
    assert copy.read_text() == before
    wheel = "torch @ https://download.pytorch.org/whl/cu126/torch-3.1.0%2Bcu126-cp313-cp313-linux_x86_64.whl"
    listed.write_text(f"{listed.read_text()}\n{wheel}\n")
    newest_image.main(str(listed), copy)
    after = before.replace(f"tqdm=={packages['tqdm']}", "tqdm==5.1")
    after = after.replace(f"torch=={packages['torch']}", "torch==3.1.0")
    assert copy.read_text().splitlines()[1:] == after.splitlines()[1:]
    assert f"recorded {date.today()}" in copy.read_text()


def test_workflows_call_what_is_there(repository):
    targets = {line.partition(":")[0] for line in (repository / "Makefile").read_text().splitlines()}
    for path in (repository / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        for words in (step.get("run", "").split() for job in jobs for step in job["steps"]):
            assert words[:1] != ["make"] or words[1] in targets
            assert words[:1] != ["python"] or (repository / words[1]).is_file()

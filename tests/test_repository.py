"""The repository's own promises: requirements, addresses, citation, the Makefile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ldarts_lib

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
CONDA_ONLY = {"python", "pip", "make"}
ELSEWHERE = "https://github.com/Someone-Else/another_book.v2"


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def slug(repository: Path) -> str:
    config = yaml.safe_load((repository / "_config.yml").read_text())
    return config["repository"]["url"].removeprefix("https://github.com/")


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A copy of the tracked text of the repository, without what was built or run."""
    left_out = shutil.ignore_patterns(".git", ".venv", "_build", "runs", "data", "*cache*", "*.egg-info")
    return Path(shutil.copytree(repository, tmp_path / "copy", ignore=left_out))


def split(requirement: str) -> tuple[str, str]:
    """Return name and version bound, conda's single ``=`` written as ``==``."""
    name, bound = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), re.sub(r"^=(?=\d)", "==", bound)


def test_environment_names_the_requirements_of_pyproject(repository: Path, project: dict) -> None:
    listed = yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]
    from_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    assert from_pip[-1] == "--editable ."
    conda = dict(split(item) for item in [*listed, *from_pip[:-1]] if isinstance(item, str))
    assert conda["python"] == project["requires-python"]

    extras = project["optional-dependencies"]
    expected = dict(
        map(split, [*project["dependencies"], *(item for extra in extras.values() for item in extra)])
    )
    assert {name: bound for name, bound in conda.items() if name not in CONDA_ONLY} == expected


def test_only_the_book_engine_is_pinned(project: dict) -> None:
    extras = project["optional-dependencies"].values()
    bounds = dict(map(split, [*project["dependencies"], *(item for extra in extras for item in extra)]))
    pinned = {name for name, bound in bounds.items() if not re.fullmatch(r">=[\d.]+", bound)}
    assert pinned == {"jupyter-book", "sphinx-book-theme"}


def test_versions_agree(repository: Path, project: dict) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert project["version"] == ldarts_lib.__version__ == citation["version"]


def test_every_address_of_the_book_follows_from_the_setting(repository: Path, slug: str) -> None:
    launch = r"(?:colab\.research\.google\.com/github|raw\.githubusercontent\.com|git\+https://github\.com)"
    launch = rf"(?:{launch}|git clone (?:-\S+ )*https://github\.com)/([\w-]+/[\w.-]*\w)"
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in [
            *repository.glob("*.*"),
            *repository.glob("book/**/*.*"),
            *repository.glob("ldarts_lib/*.py"),
        ]
        if path.suffix in {".md", ".ipynb", ".toml", ".yml", ".cff", ".py"}
    }
    found = {
        (path.name, address.removesuffix(".git"))
        for path, text in texts.items()
        for address in re.findall(launch, text)
    }
    assert {address for _, address in found} <= {slug}, found
    for name in ("README.md", "CITATION.cff", "pyproject.toml"):
        assert f"github.com/{slug}" in texts[repository / name], name


def set_address(book: Path, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/set_address.py", address]
    return subprocess.run(command, cwd=book, capture_output=True, text=True)


def test_set_address_leaves_no_old_address(copy: Path, slug: str) -> None:
    owner, name = slug.split("/")
    old = [
        f"github.com/{slug}",
        f"colab.research.google.com/github/{slug}",
        f"raw.githubusercontent.com/{slug}",
        f"{owner}.github.io/{name}",
    ]
    page = copy / "book" / "page.md"
    page.write_text("\n".join([*map("https://{}/x".format, old), f"github.com/{slug}-other"]))

    result = set_address(copy, ELSEWHERE + ".git")
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load((copy / "_config.yml").read_text())["repository"]["url"] == ELSEWHERE
    texts = [p.read_text(errors="replace") for p in copy.rglob("*") if p.is_file()]
    leftover = re.compile("|".join(rf"{re.escape(form)}(?![\w-])" for form in old))
    assert not any(leftover.search(text) for text in texts)
    assert f"github.com/{slug}-other" in page.read_text()
    assert "someone-else.github.io/another_book.v2" in page.read_text()


@pytest.mark.parametrize("address", ["", "example.org", "https://github.com/only-owner"])
def test_set_address_refuses_what_is_no_address(copy: Path, address: str) -> None:
    before = (copy / "_config.yml").read_text()
    result = set_address(copy, address)
    assert result.returncode != 0
    assert "https://github.com/OWNER/NAME" in result.stderr
    assert "Traceback" not in result.stderr
    assert (copy / "_config.yml").read_text() == before


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_help_lists_every_target(repository: Path) -> None:
    text = (repository / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    listed = {line.split()[1] for line in make(repository).stdout.splitlines()}
    assert listed == targets


def test_an_old_python_is_named(copy: Path) -> None:
    old = copy / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    result = make(copy, "test", f"PYTHON={old}")
    assert result.returncode != 0
    assert "Python 3.9.1, but 3.11 or newer is needed" in result.stderr
    assert "install Python 3.11" in make(copy, "test", "PYTHON=no-such-python").stderr


def test_a_changed_requirement_installs_again(copy: Path) -> None:
    install = "pip install"
    assert install in make(copy, "--dry-run", "test").stdout
    stamp = re.search(r"\.venv/installed-\d+", make(copy, "--dry-run", "test").stdout)[0]
    (copy / ".venv").mkdir()
    (copy / stamp).touch()
    assert install not in make(copy, "--dry-run", "test").stdout
    with (copy / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert install in make(copy, "--dry-run", "test").stdout

"""Run the fast tests with each Python and the oldest and the newest torch that pyproject.toml allows.

    python scripts/test_matrix.py [TEST ...]     only these files or folders of tests

What this machine cannot get is listed as untested, with the reason. An environment (up to 7 GB with CUDA's
libraries, less with ``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu``) is deleted after its tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "runs" / "matrix"
PYTHONS = ("3.11", "3.12", "3.13")
PYENV = Path.home() / ".pyenv" / "versions"


def interpreter(python: str) -> str | None:
    """A Python of this version: on the path, or of pyenv."""
    for found in (shutil.which(f"python{python}"), *PYENV.glob(f"{python}.*/bin/python{python}")):
        if found and not subprocess.run([found, "--version"], capture_output=True).returncode:
            return str(found)
    return None


def requirements() -> dict[str, list[str]]:
    """What is installed beside the project, without the torch that exporters ask for; per kind of torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.findall(r"^(torch(?:vision)?)>=(\S+)$", "\n".join(project["dependencies"]), re.M))
    dev = [one for one in project["optional-dependencies"]["dev"] if not one.startswith("torch")]
    oldest = [f"{name}=={bound}.*" for name, bound in bounds.items()]
    return {"oldest": [*dev, *oldest], "newest": [*dev, *bounds]}


def tried(python: str, wanted: list[str], tests: list[str]) -> tuple[str, str]:
    """The version of torch, and what became of the tests."""
    if (base := interpreter(python)) is None:
        return "", "untested: no such Python here"
    shutil.rmtree(OUT / "venv", ignore_errors=True)
    subprocess.run([base, "-m", "venv", OUT / "venv"], check=True)
    mine = OUT / "venv" / "bin" / "python"
    install = [mine, "-m", "pip", "install", "--quiet", "--editable", ".", *wanted]
    done = subprocess.run(install, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return "", f"untested: {([*done.stderr.strip().splitlines()] or ['pip failed'])[-1]}"
    asked = [mine, "-c", "import torch; print(torch.__version__)"]
    torch = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run([mine, "-m", "pytest", "-q", *tests], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    (OUT / f"{python}-{torch}.log").write_text(done.stdout)
    return torch, f"{'FAILED' if done.returncode else 'passed'}: {done.stdout.strip().splitlines()[-1]}"


def main(tests: list[str]) -> None:
    """Print one line for each combination; fail if tests failed somewhere."""
    rows = []
    for python in PYTHONS:
        for which, wanted in requirements().items():
            rows.append(f"Python {python}  {which} torch {' '.join(tried(python, wanted, tests))}")
            print(rows[-1], flush=True)
    shutil.rmtree(OUT / "venv", ignore_errors=True)
    sys.exit(any(" FAILED: " in row for row in rows))


if __name__ == "__main__":
    main(sys.argv[1:])

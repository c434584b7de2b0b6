"""What is installed without a checkout: both packages, the workflow and the notebooks of its jobs."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("snakemake", reason="needs the extra 'cluster'")
FIRST = "nasbench201/noisy-digits/darts/seed0/search/metrics.json"
SNAKEFILE = "from importlib.resources import files; print(files('ldarts_book.workflow') / 'Snakefile')"


@pytest.mark.slow
def test_an_installed_wheel_runs_the_first_job_of_the_smoke_grid(repository, tmp_path):
    """What it depends on is borrowed by a path, by which our editable installation is not found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    pip = (sys.executable, "-m", "pip")
    source = tmp_path / "source"  # building writes into the folder that it builds
    run("git", "-c", "core.autocrlf=false", "clone", "--quiet", str(repository), str(source))
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheels", str(source))
    run(sys.executable, "-m", "venv", "--without-pip", "empty")
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    python = str(tmp_path / "empty" / "bin" / "python")
    target = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", target, str(wheel))
    here = {sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))}
    (Path(target) / "borrowed.pth").write_text("\n".join(sorted(here)))

    snakefile = run(python, "-c", SNAKEFILE)
    assert snakefile.startswith(target)
    workflow = (python, "-m", "snakemake", "--snakefile", snakefile, "--directory", "out", "--cores", "1")
    run(*workflow, "--config", "grid=smoke", "device=cpu", "--", FIRST)
    assert json.loads((tmp_path / "out" / FIRST).read_text())["stage"] == "search"

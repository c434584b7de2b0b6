"""Execute every notebook at size smoke with the packages of Colab's image, and record how long each took.

`make colab-check` makes the environment: what tests/colab.txt lists, then this project as the first cell of a
notebook installs it there. Not covered: Colab's GPUs, its front end and forms, and the rest of its packages.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "data" / "recorded" / "colab" / "check.json"
OUT = Path("runs") / "colab"


def replaced() -> list[str]:
    """What the installation changed of the image."""
    lines = (ROOT / "tests" / "colab.txt").read_text().splitlines()
    image = [line.split("==") for line in lines if not line.startswith("#")]
    found = {name: metadata.version(name).partition("+")[0] for name, _ in image}
    return [f"{name} {had} → {found[name]}" for name, had in image if found[name] != had]


def main(*chosen: str) -> None:
    """Stop at what was replaced; else run all notebooks, or those chosen, record them; fail if one failed."""
    if changed := replaced():
        sys.exit(f"the image did not stay as it was: {', '.join(changed)}")
    names = ("ipykernel", "ipywidgets", "jupyter_client", "numpy", "papermill", "torch")
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
    seconds: dict[str, float | str] = json.loads(RECORD.read_text())["seconds"] if chosen else {}
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        if chosen and notebook.stem not in chosen:
            continue
        shutil.rmtree(OUT / notebook.stem, ignore_errors=True)  # what is finished would return at once
        begun = time.monotonic()
        command = [Path(sys.executable).with_name("ldarts"), "run-notebook", notebook, "--out", OUT]
        done = subprocess.run([*command, "-p", "out", OUT / notebook.stem])
        seconds[notebook.name] = "failed" if done.returncode else round(time.monotonic() - begun)
        record = {"date": str(date.today()), "versions": versions, "seconds": dict(sorted(seconds.items()))}
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    sys.exit("failed" in seconds.values())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What others do against the collapse of DARTS: one module per remedy, named like the method.

The first line of its docstring is what tables call it, a colon, and what it does in a line.
"""

from pathlib import Path


def described() -> dict[str, tuple[str, str]]:
    """What each remedy is called and what it does, by the name of its method; loads none of them."""
    shared = ("__init__", "remedy", "table")
    files = (file for file in sorted(Path(__file__).parent.glob("*.py")) if file.stem not in shared)
    first = {file.stem: file.read_text(encoding="utf-8").split("\n", 1)[0] for file in files}
    parts = {stem.replace("_", "-"): line.strip('".').partition(": ") for stem, line in first.items()}
    return {name: (label, what) for name, (label, _, what) in parts.items()}

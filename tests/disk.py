"""A disk on which one opening, write, fsync or rename of this process fails."""

import errno
import os
from pathlib import Path


class _File:
    """A file opened to be written, whose writes are counted, too."""

    def __init__(self, file, step):
        self.file, self.step = file, step

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.step(self.file.name)
        return self.file.write(content)


class Disk:
    """Calls ``fail`` instead of one step that reaches the disk, the ``at``-th of this process."""

    def __init__(self, patch, fail, at):
        self.steps, self.fail, self.at = 0, fail, at
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "open")):
            patch.setattr(owner, name, self.counted(getattr(owner, name)))

    def step(self, path):
        self.steps += 1
        if self.steps == self.at:
            self.fail(path)

    def counted(self, original):
        def call(path, *arguments, **options):
            writes = original.__name__ != "open" or "w" in "".join(arguments)
            if writes:
                self.step(path)
            found = original(path, *arguments, **options)
            return _File(found, self.step) if original.__name__ == "open" and writes else found

        return call


def full(path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

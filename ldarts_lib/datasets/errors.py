"""What can be wrong with a data set on disk."""

from ldarts_lib.errors import LdartsError


class DatasetMissing(LdartsError, FileNotFoundError):
    """A file is not there; the message names it, its size, its address and where it belongs."""


class DatasetCorrupt(LdartsError, ValueError):
    """A file is not the published one; the message names it and both checksums."""

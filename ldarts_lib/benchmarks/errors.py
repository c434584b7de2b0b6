"""What can be wrong with a tabular benchmark on disk."""


class BenchmarkMissing(FileNotFoundError):
    """The table is not there; the message says what to download or to compute, and the command."""


class BenchmarkCorrupt(ValueError):
    """A file is damaged or holds something else; the message names it and what is wrong."""

"""The errors that several rooms raise, and the one base class of all of them."""

from collections.abc import Iterable
from difflib import get_close_matches


class LdartsError(Exception):
    """Something that a user can mend: a bad name or value, missing data, a directory that is in use."""


class ProtocolError(LdartsError, ValueError):
    """A setting that is unknown or out of range; the message names it and what is allowed."""


class RunError(LdartsError, RuntimeError):
    """A run directory or a file of it that cannot be used as asked; the message says why and what to do."""


class SpaceError(LdartsError, ValueError):
    """A search space or an operation that cannot be used; the message says where, and what is allowed."""


class DatasetMissing(LdartsError, FileNotFoundError):
    """A file is not there; the message names it, its size, its address and where it belongs."""


class DatasetCorrupt(LdartsError, ValueError):
    """Data are not what they should be; the message names the files or values, and what was expected."""


class UnknownName(LdartsError, ValueError):
    """A name that means nothing here; the message lists those that do."""


def require_known(what: str, name: object, known: Iterable[str]) -> None:
    """Check a name.

    Raises:
        UnknownName: it is not among the known ones.
    """
    if name not in (known := tuple(known)):
        close = "".join(f"; did you mean {other!r}?" for other in get_close_matches(str(name), known, 1))
        raise UnknownName(f"unknown {what} {name!r:.200}; choose one of {', '.join(known)}{close}")

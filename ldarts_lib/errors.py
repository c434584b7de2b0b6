"""The one base class of this library's errors."""


class LdartsError(Exception):
    """Something that a user can mend: a bad name or value, missing data, a directory that is in use."""

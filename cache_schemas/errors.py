"""Errors as people see them: what, where, how many, and the command that mends it."""

from __future__ import annotations


class GriddleError(Exception):
    """Something Griddle can explain. The command line prints the message alone, without a traceback.

    `exit_code` 1 says that a run failed and may be tried again.
    """

    exit_code = 1


class BadInput(GriddleError):
    """What the user gave cannot be used: a config, a dataset, a file of it. A retry would repeat it (exit code 2)."""

    exit_code = 2


class DamagedCache(GriddleError):
    """A file of the cache is missing, cut, changed or swapped. Never answered with a fill value."""


class NoAccess(GriddleError):
    """A file cannot be reached: no right, a disk that fails, links in a circle. It may be sound: nothing is removed."""


class CannotWrite(GriddleError):
    """The disk is full, or the folder may only be read (then a retry would repeat it: exit code 2)."""


class OtherVersion(DamagedCache):
    """A store that another version of Griddle wrote, of a schema that this one does not read."""

"""Errors of a disk that is full or may only be read, in words, with what can be done."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache_schemas.access import no_access
from cache_schemas.errors import CannotWrite, GriddleError

FULL = (errno.ENOSPC, errno.EDQUOT)
UNREACHABLE = (
    errno.EIO,
    errno.ESTALE,
    errno.ELOOP,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENXIO,
    errno.ENODEV,
)
"""What a disk, a network file system or a link says that cannot be followed. Other errors may be mistakes of ours."""
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """A context for code that writes below `folder`: what the disk refuses becomes an error in words.

    Raises:
        CannotWrite: for a full disk or a quota that is used up (exit code 1), and for a folder that may only be read
            (exit code 2).
    """
    try:
        yield
    except OSError as error:
        cannot_write = explain(error, folder)
        if cannot_write is None:
            raise
        raise cannot_write from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context for code that writes `path`: an error of the system that names no file gets its name.

    A write to an open file, or a flush of it, says only that the disk is full, not which.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def explain(error: OSError, folder: Path) -> CannotWrite | None:
    """The error in our words, or None if it is about something else than writing below `folder`."""
    if error.errno == errno.EFBIG:
        return CannotWrite(
            f"{folder}: {os.strerror(errno.EFBIG)}. A limit says how large a file may be here: `ulimit -f` prints it, in units "
            f"of 1,024 bytes, and the file system may have one of its own. What was being written is taken away, what was "
            f"finished is kept. Raise it, then run the same command again."
        )
    if error.errno in FULL:
        with suppress(OSError):
            free = shutil.disk_usage(_existing(folder)).free
            return CannotWrite(
                f"{folder}: {os.strerror(error.errno or 0)} ({free / 1e6:,.1f} MB free). What was being written is "
                f"taken away, what was finished is kept. `griddle plan` says how much is needed, `griddle cache du` "
                f"what lies there, `griddle cache gc` what of it nobody needs; then run the same command again."
            )
    if error.errno in REFUSED and _below(error.filename, folder):
        refused = CannotWrite(
            f"{error.filename or folder}: {os.strerror(error.errno or 0)}. A cache that may only be read serves for "
            f"training where all is there (`griddle plan` says what is not); to compute, write into the config a "
            f"`cache` that is yours, or get the right to write there."
        )
        refused.exit_code = 2
        return refused
    return None


def in_words(error: OSError) -> GriddleError | None:
    """An error that no one has explained, by the file that it names; None if it may be a mistake of ours."""
    path = Path(error.filename) if isinstance(error.filename, str | os.PathLike) else None
    if path is None or error.errno not in (*FULL, *REFUSED, *UNREACHABLE):
        return explain(error, path or Path("."))
    if error.errno in (errno.EACCES, errno.EPERM) and not os.access(path, os.R_OK):
        return no_access(error, path)
    return explain(error, path) or no_access(error, path)


def _below(name: object, folder: Path) -> bool:
    if name is None:
        return True
    if not isinstance(name, (str, os.PathLike)):
        return False
    path, folder = Path(name).absolute(), folder.absolute()
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path

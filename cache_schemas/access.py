"""Files that are opened to be read: regular ones only; and what the system refuses is told apart from damage.

A file that is missing or cut is damaged: it is computed anew. A file that may not be read now (no right, a disk or a network
file system that fails, links in a circle) may be sound: nothing is removed, and nothing is computed in its place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from cache_schemas.errors import NoAccess

_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)
"""What the system says of a file that is not there, of a folder in its place, and of a place before a file's beginning."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}

AnyPath = str | os.PathLike[str]


def no_access(error: OSError, path: AnyPath) -> NoAccess | None:
    """The error in our words; None if it says that the file is missing or damaged, or nothing of a file."""
    if error.errno is None or error.errno in _DAMAGE:
        return None
    name = error.filename if isinstance(error.filename, str | os.PathLike) else path
    return NoAccess(
        f"{os.fspath(name)} cannot be reached: {os.strerror(error.errno)}. That says nothing about what it holds, so nothing "
        f"was removed. Get the right to read it, or mend the disk or the link, then run the same command again."
    )


@contextmanager
def access_to(path: AnyPath) -> Iterator[None]:
    """A context for code that reads `path`.

    Raises:
        NoAccess: where the system refuses. Other `OSError`s, which say that the file is missing or damaged, pass.
    """
    try:
        yield
    except OSError as error:
        refused = no_access(error, path)
        if refused is None:
            raise
        raise refused from error


def is_there(path: AnyPath) -> bool:
    """Whether there is a file or folder of this name; unlike `Path.exists`, never no where it cannot be told.

    Raises:
        NoAccess: where the system refuses to say.
    """
    try:
        with access_to(path):
            os.stat(path)
    except OSError:
        return False
    return True


def names_in(folder: AnyPath) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder.

    Raises:
        NoAccess: where the system refuses to list it.
    """
    try:
        with access_to(folder):
            return sorted(os.listdir(folder))
    except OSError:
        return []


def open_regular(path: AnyPath) -> BufferedReader:
    """A regular file, opened to be read. A named pipe would wait for ever, and a device may do anything.

    Raises:
        OSError: as `open` does; `EINVAL`, saying what it is, for what is no regular file.
    """
    _check_regular(os.stat(path), path)
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may have been replaced since
    try:
        _check_regular(os.fstat(number), path)
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: AnyPath, most: int | None = None) -> bytes:
    """The bytes of a regular file.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: as `open_regular`; `EINVAL`, saying so, for a file of more bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EINVAL, f"{size:,} bytes, more than {most:,}", os.fspath(path))
        return file.read()


def _check_regular(facts: os.stat_result, path: AnyPath) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))

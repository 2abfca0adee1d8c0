"""Files that a process reads again and again are kept open: those that were read last, at most `OPEN_FILES`."""

from __future__ import annotations

import os
from collections import OrderedDict
from threading import Lock

import numpy as np

OPEN_FILES = 256
"""Kept open at once; most systems allow a process 1,024."""


class _Handle:
    """A file descriptor that is closed when the last reader has let it go, never while one reads."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number") and os is not None:  # None while the interpreter ends
            os.close(self.number)


class OpenFiles:
    """Positioned reads of files. Safe in threads, and across a fork: no read moves a shared position.

    A file is kept open for the one `reader` that asked for it. A reader that opens the partition later opens its files
    itself, so that it reads the files that lie at these paths by then.
    """

    def __init__(self, most: int = OPEN_FILES) -> None:
        self._most = most
        self._handles: OrderedDict[tuple[int, str], _Handle] = OrderedDict()
        self._lock = Lock()

    def read_into(self, reader: int, path: str, buffers: list[np.ndarray], offset: int, wanted: int) -> int:
        """Fill uint8 buffers of `wanted` bytes in all, one after the other, from `offset`.

        Returns the bytes read, fewer where the file ends.

        Raises:
            OSError: if the file cannot be opened or read.
        """
        handle = self._handle((reader, path))
        done = _preadv(handle.number, buffers, offset)
        while 0 < done < wanted:  # a signal, or a network file system, may cut a read short
            rest = _after(buffers, done)
            more = _preadv(handle.number, rest, offset + done)
            if more == 0:
                break
            done += more
        return done

    def advise(self, reader: int, path: str, offset: int, length: int) -> None:
        """Ask the system to read ahead; it returns at once, and errors are left to the reading that follows."""
        try:
            os.posix_fadvise(self._handle((reader, path)).number, offset, length, os.POSIX_FADV_WILLNEED)
        except OSError:
            return

    def _handle(self, key: tuple[int, str]) -> _Handle:
        with self._lock:
            handle = self._handles.get(key)
            if handle is None:
                handle = self._handles[key] = _Handle(key[1])
                if len(self._handles) > self._most:
                    self._handles.popitem(last=False)
            self._handles.move_to_end(key)
            return handle


FILES = OpenFiles()
"""Those of this process."""


def _preadv(number: int, buffers: list[np.ndarray], offset: int) -> int:
    return os.preadv(number, buffers, offset)  # type: ignore[arg-type]  # numpy's arrays are buffers


def _after(buffers: list[np.ndarray], done: int) -> list[np.ndarray]:
    """What is left of the buffers behind the first `done` bytes."""
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
        done = max(0, done - len(buffer))
    return rest

"""A command's own log file: what it says goes there, and to the screen as well, as long as there is one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_into(path: Path) -> None:
    """From now on all that this process and its children write to standard output and standard error goes into `path`.

    What Python writes also goes where it went so far. When that is gone (a terminal that was closed, a Snakemake that was
    killed), or when the log's disk is full, the work goes on without it. The file begins anew. Lines are appended, so that a
    process that an earlier call left behind cannot write over them.

    Raises:
        OSError: if the file cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    for name, number in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        screen = os.dup(number)
        os.dup2(file, number)
        setattr(sys, name, _Both(number, screen))
    os.close(file)


class _Both:
    """A text stream into two file descriptors. It never raises, for what is said is never worth the work that says it."""

    encoding = "utf-8"
    errors = "backslashreplace"
    closed = False

    def __init__(self, file: int, screen: int) -> None:
        self._file = file
        self._screen: int | None = screen

    def write(self, text: str) -> int:
        data = text.encode(self.encoding, self.errors)
        _write(self._file, data)
        if self._screen is not None and not _write(self._screen, data):
            self._screen = None
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._file

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


def _write(target: int, data: bytes) -> bool:
    """Whether all of it could be written."""
    try:
        while data:
            data = data[os.write(target, data) :]
    except OSError:
        return False
    return True

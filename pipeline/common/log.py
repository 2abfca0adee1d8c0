"""Lines for people, on standard error, flushed at once so that a log file is never behind; on a terminal also a bar. And
numbers of bytes as people read them.
"""

from __future__ import annotations

import shutil
import sys

BAR = 24
"""Characters of a bar."""

_drawn = False
"""Whether a bar stands in the terminal's last line."""


def log(line: str) -> None:
    _wipe()
    print(f"{line}\n", end="", file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether a person looks on, and a line may be drawn over."""
    return sys.stderr.isatty()


def draw(share: float, line: str) -> None:
    """On a terminal: a bar that is full by `share`, 0 to 1, and the line, in the place of those before."""
    global _drawn
    filled = round(BAR * min(1.0, max(0.0, share)))
    text = f"[{'#' * filled}{'.' * (BAR - filled)}] {line.strip()}"
    width = shutil.get_terminal_size().columns - 1
    print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
    _drawn = True


def _wipe() -> None:
    global _drawn
    if _drawn:
        print("\r\x1b[K", end="", file=sys.stderr)
        _drawn = False


def warn_loudly(lines: list[str]) -> None:
    """A frame around what nobody should overlook."""
    width = max(len(line) for line in lines)
    log("*" * (width + 4))
    for line in lines:
        log(f"* {line.ljust(width)} *")
    log("*" * (width + 4))


def bytes_in_words(count: int) -> str:
    """Bytes for people, in three digits.

    >>> [bytes_in_words(count) for count in (88_000, 1_203_904, 177_000_000_000)]
    ['88 kB', '1.2 MB', '177 GB']
    """
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 999.5 * size:
            return f"{float(f'{count / size:.3g}'):g} {unit}"
    return f"{float(f'{count / 1e12:.3g}'):g} TB"

"""How far long work is, how fast it goes and when it ends: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import time
from threading import Lock

from pipeline.common.log import draw, log, on_terminal

SECONDS = 5.0
"""Between two lines."""
REDRAW_SECONDS = 0.2
"""Between two drawings of a bar."""


def pause() -> float:
    """Seconds between two words on how far the work is."""
    return REDRAW_SECONDS if on_terminal() else SECONDS


def tell(share: float, line: str) -> None:
    """The bar on a terminal, else the line."""
    if on_terminal() and share < 1:
        draw(share, line)
    else:
        log(line)


class Progress:
    """Counts items and bytes of several partitions; may be told from several threads.

    Args:
        total: items of all that is to be done.
        items: what they are called.
    """

    def __init__(self, total: int, items: str) -> None:
        self._total, self._items = total, items
        self._done, self._bytes = 0, 0
        self._began = self._said = time.monotonic()
        self._lock = Lock()

    def add(self, where: str, items: int, size: int) -> None:
        """So many more items, of so many bytes, of the partition `where`."""
        with self._lock:
            self._done, self._bytes = self._done + items, self._bytes + size
            now = time.monotonic()
            if now - self._said < pause():
                return
            self._said = now
            line = self._line(now - self._began)
            share = self._done / max(1, self._total)
        tell(share, f"  {where}: {line}")

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = max(0, self._total - self._done) / rate if rate else 0.0
        return (
            f"{self._done:,} of {self._total:,} {self._items}, {rate:.1f} {self._items}/s, "
            f"{self._bytes / 1e6 / seconds:.1f} MB/s, {duration(left)} left"
        )


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

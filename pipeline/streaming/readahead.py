"""Telling the system what will be read soon. This is done only while reading waits for a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from resource import RUSAGE_THREAD, getrusage

from pipeline.streaming.order import Draw
from pipeline.streaming.view_source import ViewSource

STEPS_AHEAD = 16
"""Some 150 MB for ViT-L at 224 x 448 and batches of 8: bounded, and enough to keep a disk busy."""
STEPS_ON = 256
"""After a step that waited for the disk, so many steps are announced. Then it is checked again whether this is needed."""
WAITS = 4
"""Voluntary context switches. A step whose reading has more of them is taken to wait for a disk."""


class ReadAhead:
    """Announces what a later step will read, `ahead` steps after the present one. It changes no value and no order.

    Where all is in memory, nothing is announced: an announcement takes a tenth of the time of a sample. A worker that makes
    the steps s, s + w, s + 2w, ... announces s + ahead, s + w + ahead, ..., so that each step is announced once.
    """

    def __init__(
        self,
        source: ViewSource,
        draws_of: Callable[[int], list[Draw]],
        ahead: int = STEPS_AHEAD,
        *,
        all_views: bool = False,
    ) -> None:
        self._source = source
        self._draws_of = draws_of
        self._ahead = ahead
        self._all_views = all_views
        self._steps_left = 0
        self._announced_to = 0

    @contextmanager
    def reading(self, step: int) -> Iterator[None]:
        """Watch whether the reading of this step waits, and afterwards announce what is due."""
        before = getrusage(RUSAGE_THREAD).ru_nvcsw
        yield
        if getrusage(RUSAGE_THREAD).ru_nvcsw - before > WAITS:
            self._steps_left = STEPS_ON
        if self._steps_left and self._ahead:
            self._announce(step)

    def _announce(self, step: int) -> None:
        self._steps_left -= 1
        going_on = step < self._announced_to <= step + self._ahead
        first = step + self._ahead if going_on else step + 1
        self._announced_to = step + self._ahead
        for later in range(first, step + self._ahead + 1):
            # In the order in which it lies on the disk.
            for draw in sorted(self._draws_of(later), key=lambda draw: (draw.scan.reading, draw.view)):
                for view in draw.scan.views if self._all_views else (draw.view,):
                    self._source.advise(draw.scan.reading, view, draw.variant)

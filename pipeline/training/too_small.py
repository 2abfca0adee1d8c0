"""Batches too small to learn from: the head's batch norm takes its mean and deviation from the batch, and of one point there is
no deviation.

Such a batch changes nothing. Like a step whose gradients overflow float16 it counts as a step for the schedule of rates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.common.log import log

LEAST_POINTS = 2


class TooSmall:
    """The batches of one training that were too small, with their scans.

    Attributes:
        batches: how many.
        scans: their names, each once.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self.batches = 0
        self.scans: dict[str, None] = {}

    def skips(self, points: int, names: Sequence[str]) -> bool:
        """Whether a batch is too small; then it is counted, and its scans are said once."""
        if points >= LEAST_POINTS:
            return False
        if not set(names) <= set(self.scans):
            log(
                f"  a batch of {points} point(s) is too small to learn from, and is skipped: {', '.join(names)}"
            )
        self.add(names)
        return True

    def add(self, names: Sequence[str]) -> None:
        """Count a batch of these scans."""
        self.batches += 1
        self.scans |= dict.fromkeys(names)

    def check(self, total: int) -> None:
        """Say how many batches were skipped.

        Raises:
            BadInput: if these are all of them: nothing was learnt.
        """
        if not self.batches:
            return
        if self.batches >= total:
            raise BadInput(
                f"{self._key}: none of {total} batches has {LEAST_POINTS} points to learn from in the field of view. Look at the "
                f"lidar files of {', '.join(list(self.scans)[:3])}, or write a larger {self._key}.batch"
            )
        log(
            f"  {self.batches} of {total} batches skipped: fewer than {LEAST_POINTS} points each, of {len(self.scans)} scan(s): "
            f"{', '.join(list(self.scans)[:5])}{', ...' if len(self.scans) > 5 else ''}"
        )

    def recorded(self) -> dict[str, object]:
        """For JSON."""
        return {"batches": self.batches, "scans": list(self.scans)}


def mean_by_epoch(losses: Sequence[float], per_epoch: int) -> list[float | None]:
    """The mean loss of each epoch without its skipped batches, which are NaN; None where all were skipped."""
    means: list[float | None] = []
    for first in range(0, len(losses), per_epoch):
        learnt = [loss for loss in losses[first : first + per_epoch] if not np.isnan(loss)]
        means.append(float(np.mean(learnt)) if learnt else None)
    return means

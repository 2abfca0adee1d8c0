"""Which scans, cameras and variants make which batch: pure functions of (seed, epoch, scan)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.random import generator


@dataclass(frozen=True)
class ScanPlace:
    """A scan that can be drawn.

    Attributes:
        reading: which of the run's readings (partitions) holds it.
        name: its name in its dataset; all draws for it depend on this, not on where it stands.
        views: the usable views of it, as rows of the partition's view store.
    """

    reading: int
    dataset: str
    name: str
    views: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """One sample to be made: a scan's view, in one variant, for one epoch."""

    scan: ScanPlace
    view: int
    variant: int
    epoch: int


def steps_per_epoch(scans: int, batch: int, key: str = "pretrain.batch") -> int:
    """Whole batches in a pass over all scans; the rest is left out of this epoch, as published (drop_last).

    Raises:
        BadInput: if there is not one whole batch.
    """
    if scans < batch:
        raise BadInput(f"{key} is {batch}, but there are only {scans} scan(s) to draw; write a smaller one")
    return scans // batch


def batch_of_step(
    scans: Sequence[ScanPlace], *, seed: int, step: int, batch: int, variants: int
) -> list[Draw]:
    """The samples of one training step, whoever asks and whatever ran before."""
    epoch, places = places_of_step(len(scans), seed=seed, step=step, batch=batch)
    return [draw(scans[i], seed=seed, epoch=epoch, variants=variants) for i in places]


def places_of_step(scans: int, *, seed: int, step: int, batch: int) -> tuple[int, list[int]]:
    """A step's epoch, and which of `scans` scans are its batch: every epoch goes through them in an order of its own."""
    epoch, place = divmod(step, steps_per_epoch(scans, batch))
    order = _order_of_epoch(scans, seed, epoch)
    return epoch, [int(i) for i in order[place * batch :][:batch]]


@lru_cache(maxsize=2)
def _order_of_epoch(scans: int, seed: int, epoch: int) -> np.ndarray:
    """The scans in the order of an epoch; kept, as all its steps ask for it."""
    return generator(seed, "order", epoch).permutation(scans).astype(np.uint32)


def draw(scan: ScanPlace, *, seed: int, epoch: int, variants: int) -> Draw:
    """One camera, uniformly among those that see enough, and one variant of the representatives."""
    rng = generator(seed, "view", epoch, scan.dataset, scan.name)
    view = scan.views[int(rng.integers(len(scan.views)))]
    return Draw(scan, view, int(rng.integers(variants)), epoch)

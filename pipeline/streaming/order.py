"""Which scans, cameras and variants make which batch: pure functions of (seed, epoch, scan).

`random`, the published order: every epoch goes through all scans in an order of its own. `blocks`: through the partitions
in an order of its own, some at a time, and through the scans of these in an order of their own: what is open, and what a
disk reads ahead, stays bounded, while a batch still mixes scans of many partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.common.random import generator
from pipeline.streaming.scan_places import blocks
from pipeline.streaming.weighted import draws_in_epoch, weighted_epoch

Order = Literal["random", "blocks"]

PARTITIONS_MIXED = 64
"""So many partitions' scans are shuffled together: some 2,500 scans of nuScenes. It is part of the order."""


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
    """One sample to be made: a scan's view, in one variant, for one epoch.

    Attributes:
        view: the one that was drawn; of a sample of all cameras they are `scan.views`.
    """

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
    scans: Sequence[ScanPlace],
    *,
    seed: int,
    step: int,
    batch: int,
    variants: int,
    order: Order = "random",
    weights: Mapping[str, float] | None = None,
) -> list[Draw]:
    """The samples of one training step, whoever asks and whatever ran before.

    With `weights`, by dataset, a scan that is drawn twice in an epoch is drawn as in two epochs: camera, variant and
    augmentation hang on how often its dataset was gone through.
    """
    if weights:
        sizes_by_dataset = dataset_sizes(scans)
        draws = draws_in_epoch(
            tuple(sizes_by_dataset.values()), [weights.get(name, 1.0) for name in sizes_by_dataset]
        )
        epoch, place = divmod(step, steps_per_epoch(sum(draws), batch))
        drawn, passes = weighted_epoch(tuple(sizes_by_dataset.values()), draws, seed, epoch)
        chosen = slice(place * batch, (place + 1) * batch)
        return [
            draw(scans[scan], seed=seed, epoch=number, variants=variants)
            for scan, number in zip(drawn[chosen].tolist(), passes[chosen].tolist(), strict=True)
        ]
    sizes = blocks_of(scans) if order == "blocks" else (len(scans),)
    epoch, places = places_of_step(sizes, seed=seed, step=step, batch=batch)
    return [draw(scans[place], seed=seed, epoch=epoch, variants=variants) for place in places]


def places_of_step(sizes: tuple[int, ...], *, seed: int, step: int, batch: int) -> tuple[int, list[int]]:
    """A step's epoch, and which scans are its batch: every epoch goes through all of them in an order of its own.

    Args:
        sizes: how many scans each block has that is gone through as one; scans are counted through all of them.
    """
    epoch, place = divmod(step, steps_per_epoch(sum(sizes), batch))
    return epoch, order_of_epoch(sizes, seed, epoch)[place * batch :][:batch].tolist()


@lru_cache(maxsize=2)
def order_of_epoch(sizes: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """All scans in the order of an epoch, (scans,) uint32; kept, as all its steps ask for it."""
    rng = generator(seed, "order", epoch)
    if len(sizes) == 1:
        return rng.permutation(sizes[0]).astype(np.uint32)
    starts = np.cumsum([0, *sizes])
    scans = np.arange(starts[-1], dtype=np.uint32)
    partitions = rng.permutation(len(sizes))
    mixed = [
        rng.permutation(np.concatenate([scans[starts[p] : starts[p + 1]] for p in some]))
        for some in np.split(partitions, range(PARTITIONS_MIXED, len(sizes), PARTITIONS_MIXED))
    ]
    return np.concatenate(mixed)


def blocks_of(scans: Sequence[Any]) -> tuple[int, ...]:
    """How many scans each partition has, of `Places` or of a plain sequence of places."""
    known: tuple[int, ...] | None = getattr(scans, "blocks", None)
    return known if known is not None else blocks(scan.reading for scan in scans)


def dataset_sizes(scans: Sequence[Any]) -> dict[str, int]:
    """How many scans each dataset has, in order, of `Places` or of a plain sequence of places; datasets are runs."""
    known: dict[str, int] | None = getattr(scans, "datasets", None)
    return known if known is not None else dict(Counter(scan.dataset for scan in scans))


def draw(scan: ScanPlace, *, seed: int, epoch: int, variants: int) -> Draw:
    """One camera, uniformly among those that see enough, and one variant of the representatives."""
    rng = generator(seed, "view", epoch, scan.dataset, scan.name)
    view = scan.views[int(rng.integers(len(scan.views)))]
    return Draw(scan, view, int(rng.integers(variants)), epoch)

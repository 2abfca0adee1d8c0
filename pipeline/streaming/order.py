"""Which scans, cameras and variants make which batch: pure functions of (seed, epoch, scan).

`random` is the published order: every epoch shuffles all scans anew. `blocks` shuffles the partitions anew, takes some of
them at a time, and shuffles the scans of these. So the number of open partitions and the bytes that a disk reads ahead stay
bounded, while a batch still mixes scans of many partitions.
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
        name: its name in its dataset. All random draws for the scan depend on the name, not on its position.
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
        view: the view that was drawn. It is not used for a sample of all cameras, which takes `scan.views`.
    """

    scan: ScanPlace
    view: int
    variant: int
    epoch: int


def steps_per_epoch(scans: int, batch: int, key: str = "pretrain.batch") -> int:
    """The number of whole batches in a pass over all scans. The remaining scans are left out of this epoch, as published
    (drop_last).

    Raises:
        BadInput: if there are fewer scans than a batch.
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
    """The samples of one training step. They depend on the arguments alone, not on what ran before.

    With `weights`, by dataset, a scan may be drawn twice in an epoch. Its two draws then differ as in two epochs: camera,
    variant and augmentation depend on the number of passes through its dataset.
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
    """The epoch of a step, and the scans of its batch. Every epoch goes through all scans, in an order of its own.

    Args:
        sizes: the number of scans of each block. Scans are numbered through all blocks.
    """
    epoch, place = divmod(step, steps_per_epoch(sum(sizes), batch))
    return epoch, order_of_epoch(sizes, seed, epoch)[place * batch :][:batch].tolist()


@lru_cache(maxsize=2)
def order_of_epoch(sizes: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """All scans in the order of an epoch, (scans,) uint32. It is cached, because each step of the epoch needs it."""
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
    """How many scans each dataset has, in order, of `Places` or of a plain sequence of places. The scans of a dataset follow
    each other."""
    known: dict[str, int] | None = getattr(scans, "datasets", None)
    return known if known is not None else dict(Counter(scan.dataset for scan in scans))


def draw(scan: ScanPlace, *, seed: int, epoch: int, variants: int) -> Draw:
    """Draw one camera, uniformly among those that see enough points, and one variant of the representatives."""
    rng = generator(seed, "view", epoch, scan.dataset, scan.name)
    view = scan.views[int(rng.integers(len(scan.views)))]
    return Draw(scan, view, int(rng.integers(variants)), epoch)

"""An epoch in which some datasets are drawn more often than others: a pure function of (seed, epoch).

An epoch has as many draws as there are scans, with or without weights. The share of a dataset is proportional to its weight
times its number of scans. All scans of a dataset are drawn before one is drawn again, also across the ends of epochs, and each
pass has an order of its own. So over a long training every scan of a dataset is drawn equally often.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pipeline.common.random import generator


def draws_in_epoch(sizes: Sequence[int], weights: Sequence[float]) -> tuple[int, ...]:
    """How many draws of an epoch each dataset gets. They sum to the number of scans, and each differs from its exact share by
    less than one."""
    total = sum(sizes)
    shares = np.array([size * weight for size, weight in zip(sizes, weights, strict=True)], np.float64)
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    # Largest remainders first; of equal ones the earlier dataset.
    rest = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[rest] += 1
    return tuple(int(count) for count in counts)


@lru_cache(maxsize=2)
def weighted_epoch(
    sizes: tuple[int, ...], draws: tuple[int, ...], seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The scans of an epoch in their order, and the pass through its dataset in which each is drawn, (draws,) uint32.

    Args:
        sizes: scans of each dataset; scans are counted through all of them.
        draws: of each dataset in every epoch.
    """
    places, passes = [], []
    first = 0
    for number, (size, count) in enumerate(zip(sizes, draws, strict=True)):
        begin, end = epoch * count, (epoch + 1) * count
        for number_of_pass in range(begin // size, -(-end // size)):
            order = generator(seed, "weighted order", number, number_of_pass).permutation(size)
            start = number_of_pass * size
            part = order[max(0, begin - start) : end - start]
            places.append(part + first)
            passes.append(np.full(len(part), number_of_pass))
        first += size
    mixed = generator(seed, "order", epoch).permutation(sum(draws))
    return (
        np.concatenate(places).astype(np.uint32)[mixed],
        np.concatenate(passes).astype(np.uint32)[mixed],
    )

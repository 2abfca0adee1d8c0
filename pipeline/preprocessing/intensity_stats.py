"""Measuring the mean and deviation of a dataset's intensities, over all points of its train split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cache_schemas.canonical import sealed
from cache_schemas.errors import BadInput
from cache_schemas.manifest import made
from cache_schemas.publish import write_json
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from pipeline.common.parallel import for_each
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import KIND, ToMeasure

STEP = 1 << 22
"""Points that one task reads: 16 MB."""


@dataclass(frozen=True)
class Spread:
    """Of `points` intensities the mean and the standard deviation."""

    points: int
    mean: float
    deviation: float


def measure(cache: Path, measured: ToMeasure, threads: int | None = None) -> Spread:
    """The spread of all raw intensities, in float64: piece by piece in a fixed order, for any number of threads.

    Raises:
        BadInput: if all intensities are the same, so that nothing can be normalised by their spread.
        DamagedCache: naming the file.
    """
    pieces: list[tuple[PartitionReader, int, int]] = []
    for entry in measured.entries:
        folder, member = cache / measured.store.folder, str(entry.members["scans"])
        reader = PartitionReader(folder, SCANS, entry.name, member, measured.store.identity)
        points = reader.shape("intensity")[0]
        pieces += [(reader, first, min(points, first + STEP)) for first in range(0, points, STEP)]
    sums = np.array(for_each(lambda number: _sums(*pieces[number]), range(len(pieces)), threads))
    count, mean_of_piece, squares = sums.T
    points = int(count.sum())
    mean = float((count * mean_of_piece).sum() / points)
    variance = float((squares + count * (mean_of_piece - mean) ** 2).sum() / points)
    if not variance > 0:
        raise BadInput(
            f"dataset {measured.dataset}: all {points:,} intensities are {mean:g}, and cannot be normalised by their "
            f"spread. Write datasets.{measured.dataset}.intensity: [{mean:g}, 1.0]"
        )
    return Spread(points, mean, variance**0.5)


def write(path: Path, measured: ToMeasure, spread: Spread) -> None:
    """Write the measured values, whole or not at all."""
    body = {
        "griddle": KIND,
        "dataset": measured.dataset,
        "scans": measured.store.folder,
        "partitions": len(measured.entries),
        **asdict(spread),
        "made": made(),
    }
    write_json(path, sealed(body))


def measure_if_missing(
    experiment: Experiment, measured: ToMeasure, threads: int | None = None
) -> Spread | None:
    """Measure and write what was not measured before, and return it. The scan store must hold all that is read."""
    path = experiment.stats_path(measured)
    if path.exists():
        return None
    spread = measure(experiment.cache, measured, threads)
    write(path, measured, spread)
    return spread


def _sums(reader: PartitionReader, first: int, last: int) -> tuple[float, float, float]:
    """Of some points their number, their mean, and the sum of squares about it."""
    values = reader.read("intensity", first, last).astype(np.float64)
    mean = values.mean()
    return float(len(values)), float(mean), float(np.square(values - mean).sum())

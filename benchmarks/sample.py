"""What a training sample costs: from the cache, and with the published loader, on the same real nuScenes keyframes.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/ with v1.0-trainval tables
    git clone https://github.com/valeoai/ScaLR
    python benchmarks/sample.py --published ScaLR    # about two minutes, 1 GB of temporary files

The published side is `__getitem__` of its dataset class, unmodified: read the scan, voxelise, project, decode and
resize the image, augment, crop, search neighbours. Ours is a step of 8 samples, ready for the device, divided by 8:
draw, read points, views and patch grids, check every chunk's checksum, augment, crop, mend neighbours, find cells,
pack. Both run in one process, on one thread, in turn; times are CPU time; a ratio is one of neighbours in time.
The published side still has to run its teacher, and ours does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from authors import CAMERAS, AuthorsLoader
from keyframes import Keyframes, dense_keyframes, real_keyframes

from cache_schemas.reading import ZarrReader
from pipeline.streaming.batches import PretrainSteps

BATCH = 8


@dataclass(frozen=True)
class Row:
    """One line of the table: our side, and the camera that the published side looks through for scan i."""

    name: str
    steps: PretrainSteps
    published: Callable[[int], object]


@click.command()
@click.option(
    "--published",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A checkout of github.com/valeoai/ScaLR.",
)
@click.option("--pairs", default=9, show_default=True, help="Measurements of each side, in turn.")
@click.option("--partitions", default=4, show_default=True, help="Partitions of 8 scans in the cache.")
def main(published: Path, pairs: int, partitions: int) -> None:
    """Compare the CPU time of a training sample."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        real = real_keyframes(Path(folder) / "real", partitions, batch=BATCH)
        dense = dense_keyframes(Path(folder) / "dense", 4, batch=BATCH)
        authors = AuthorsLoader(published, real.root, [*real.scans, *dense.scans])
        click.echo(
            f"ScaLR {authors.version}, {pairs} pairs, medians of CPU ms a sample; patch grid 16 x 32 x 1024; "
            f"ratio: min, median, max; least: the smallest CPU ms of each side and their ratio"
        )
        click.echo(f"{'':<34} {'points':>6}  {'published':>9} {'cache':>7}  {'ratio':^20}  {'least':^20}")
        for row in _rows(real, dense, authors):
            _measure(row, pairs)


def _rows(real: Keyframes, dense: Keyframes, authors: AuthorsLoader) -> list[Row]:
    def of_real(i: int) -> object:
        return authors.sample(i % len(real.scans), CAMERAS[i % len(CAMERAS)])

    def of_dense(i: int) -> object:
        scan = i % len(dense.scans)
        return authors.sample(len(real.scans) + scan, dense.scans[scan].images[0].camera)

    return [
        Row("nuScenes view, float16", real.steps(), of_real),
        Row("nuScenes view, int8", real.steps("int8"), of_real),
        Row("nuScenes view, float16, Zarr API", real.steps(reader=ZarrReader), of_real),
        Row("view of 20,000 points, float16", dense.steps(), of_dense),
    ]


def _measure(row: Row, pairs: int) -> None:
    rounds = max(1, len(row.steps) // BATCH)
    points = []
    for step in range(2 * rounds):  # opens all partitions and warms the page cache
        points.append(len(row.steps[step].clouds.features) / BATCH)
    row.published(0)
    times = np.empty((pairs, 2))  # (pairs, published and cache) seconds a sample
    for pair in range(pairs):
        start = time.process_time()
        row.published(pair)
        times[pair, 0] = time.process_time() - start
        start = time.process_time()
        for step in range(rounds):
            row.steps[2 * rounds + pair * rounds + step]
        times[pair, 1] = (time.process_time() - start) / (rounds * BATCH)
    ratios = times[:, 0] / times[:, 1]
    published, cache = np.median(times, axis=0) * 1e3
    least = times.min(axis=0) * 1e3
    click.echo(
        f"{row.name:<34} {np.mean(points):6.0f}  {published:9.1f} {cache:7.3f}  "
        f"{ratios.min():5.0f}  {np.median(ratios):5.0f}  {ratios.max():5.0f}    "
        f"{least[0]:6.1f} {least[1]:6.3f} {least[0] / least[1]:5.0f}"
    )


if __name__ == "__main__":
    main()

"""What a training sample costs: from the cache, and with the published loader, on the same real recordings of four lidars.

    export GRIDDLE_SAMPLES=/path/to/samples          # the folder that holds nuscenes/, kitti/ and pandaset/
    git clone https://github.com/valeoai/ScaLR
    python benchmarks/sample.py --published ScaLR    # about four minutes, 2 GB of temporary files

The published side is `__getitem__` of its dataset class, unmodified: read the scan, voxelise, project, decode and
resize the image, augment, crop, search neighbours. Ours is a step of 8 samples, ready for the device, divided by 8:
draw, read points, views and patch grids, check every chunk's checksum, augment, crop, mend neighbours, find cells,
pack. Both run in one process, on one thread, in turn; times are CPU time; a ratio is one of neighbours in time.
The published side still has to run its teacher, and ours does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from authors import AuthorsLoader, published_option
from keyframes import Keyframes, dense_keyframes, pandaset, real_keyframes, semantic_kitti

from cache_schemas.reading import ZarrReader
from pipeline.streaming.view_batches import PretrainSteps

BATCH = 8


@dataclass(frozen=True)
class Row:
    """One line of the table: our side, and the camera that the published side looks through for scan i."""

    name: str
    steps: PretrainSteps
    published: Callable[[int], object]


@click.command()
@published_option
@click.option("--pairs", default=9, show_default=True, help="Measurements of each side, in turn.")
@click.option("--partitions", default=4, show_default=True, help="Partitions of 8 scans in the cache.")
def main(published: Path, pairs: int, partitions: int) -> None:
    """Compare the CPU time of a training sample."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        click.echo(
            f"{pairs} pairs, medians of CPU ms a sample; patch grid 16 x 32 x 1024; "
            f"ratio: min, median, max; least: the smallest CPU ms of each side and their ratio"
        )
        click.echo(f"{'':<34} {'points':>6}  {'published':>9} {'cache':>7}  {'ratio':^20}  {'least':^20}")
        for row in _rows(Path(folder), published, partitions):
            _measure(row, pairs)


def _rows(folder: Path, published: Path, partitions: int) -> Iterator[Row]:
    real = real_keyframes(folder / "real", partitions, batch=BATCH)
    theirs = _published(published, real)
    yield Row("nuScenes view, float16", real.steps(), theirs)
    yield Row("nuScenes view, int8", real.steps("int8"), theirs)
    yield Row("nuScenes view, float16, Zarr API", real.steps(reader=ZarrReader), theirs)
    dense = dense_keyframes(folder / "dense", 4, batch=BATCH)
    yield Row("view of 20,000 points, float16", dense.steps(), _published(published, dense))
    for name, recordings in (
        ("SemanticKITTI view, float16", semantic_kitti(folder / "kitti")),
        ("PandaSet Pandar64 view, float16", pandaset("pandaset64")),
        ("PandaSet PandarGT view, float16", pandaset("pandasetgt")),
    ):
        cache = real_keyframes(folder / recordings.reader, partitions, batch=BATCH, recordings=recordings)
        yield Row(name, cache.steps(), _published(published, cache))


def _published(checkout: Path, cache: Keyframes) -> Callable[[int], object]:
    """The published side over a cache's scans: through one camera after the other."""
    authors = AuthorsLoader(checkout, cache.recordings.reader, cache.recordings.root, cache.scans)

    def sample(i: int) -> object:
        scan = i % len(cache.scans)
        images = cache.scans[scan].images
        return authors.sample(scan, images[i % len(images)].camera)

    return sample


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

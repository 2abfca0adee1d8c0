"""One point per occupied voxel: by one packed integer per point, or by unique rows, as published.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/ and kitti/
    python benchmarks/voxels.py                      # seconds

Published (ScaLR, utils/transforms.py): `np.unique` of the points' voxels (N, 3) along axis 0. Ours sorts one integer
per point. Same points in the same random order, one thread, in turn; times are CPU time, a ratio is one of
neighbours in time, and both must keep the same points.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from pipeline.geometry.voxels import representatives

VOXEL = 0.1
SCANS = {
    "nuScenes": ("nuscenes/samples/LIDAR_TOP/*.bin", 5),
    "KITTI": ("kitti/object/training/velodyne/*.bin", 4),
}


def by_rows(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As published; the permutation is numpy's here, so that both sides draw the same."""
    permuted = rng.permutation(len(xyz))
    shifted = xyz[permuted] - xyz.min(0, keepdims=True)
    return permuted[np.unique((shifted / VOXEL).astype("int"), return_index=True, axis=0)[1]]


@click.command()
@click.option("--pairs", default=9, show_default=True, help="Measurements of each side, in turn.")
def main(pairs: int) -> None:
    """Compare the CPU time of voxelising a scan."""
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException(
            "real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds them"
        )
    click.echo(f"voxels of {VOXEL} m, {pairs} pairs, medians of CPU ms; ratio: min, median, max")
    click.echo(f"{'':<10} {'points':>7} {'voxels':>7}  {'rows':>7} {'packed':>7}  {'ratio':^20}")
    for name, (pattern, columns) in SCANS.items():
        path = min(Path(samples).glob(pattern))
        xyz = np.ascontiguousarray(np.fromfile(path, "<f4").reshape(-1, columns)[:, :3])
        times = np.empty((pairs, 2))
        for pair in range(pairs):
            rows, times[pair, 0] = _timed(partial(by_rows, xyz, np.random.default_rng(pair)))
            packed, times[pair, 1] = _timed(partial(representatives, xyz, VOXEL, np.random.default_rng(pair)))
            if not np.array_equal(rows, packed):
                raise click.ClickException(f"{path}: the two ways keep other points")
        ratios, (left, right) = times[:, 0] / times[:, 1], np.median(times, axis=0) * 1e3
        click.echo(
            f"{name:<10} {len(xyz):7} {len(packed):7}  {left:7.1f} {right:7.1f}  "
            f"{ratios.min():5.1f}  {np.median(ratios):5.1f}  {ratios.max():5.1f}"
        )


def _timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


if __name__ == "__main__":
    main()

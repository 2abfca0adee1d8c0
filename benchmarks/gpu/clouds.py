"""Batches as large as those of a training: what the cameras of a real keyframe see, from the packed folder."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from camera_clouds import cloud_of, views_of

from benchmarks.gpu.packed import Packed
from pipeline.students.packed import Cloud, PackedClouds, pack


def real_clouds(packed: Path, count: int, points: int) -> PackedClouds:
    """`count` clouds on the CPU, the six views of the first keyframe in turn; sizes as `camera_clouds` says."""
    return pack([_cloud(packed, number % 6, points) for number in range(count)])


@functools.cache
def _cloud(packed: Path, camera: int, points: int) -> Cloud:
    return cloud_of(_views(packed)[camera], points, camera)


@functools.cache
def _views(packed: Path) -> list[npt.NDArray[np.float32]]:
    opened = Packed(packed)
    return views_of(opened.recordings, opened.scans[0])


def part_of(clouds: PackedClouds, points: int) -> PackedClouds:
    """The first points of each cloud, and of each the neighbours that are left, its own row in the place of the others:
    for runs on a CPU."""
    parts = []
    for start, stop in zip(clouds.offsets.tolist(), clouds.offsets.tolist()[1:], strict=False):
        stop = min(stop, start + points)
        near = clouds.neighbours[start:stop].numpy() - start
        own = np.arange(stop - start)[:, None]
        parts.append(
            Cloud(
                clouds.features[start:stop].numpy(),
                np.where(near < stop - start, near, own),
                clouds.cells[start:stop].numpy(),
            )
        )
    return pack(parts)

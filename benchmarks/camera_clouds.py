"""Clouds for the student's benchmarks: what the six cameras of a real nuScenes keyframe (of scene-0061) see, in $GRIDDLE_SAMPLES.

A camera sees some 3,000 points at one point per 10 cm voxel. Denser clouds are the same views with points put beside
their own, a stand-in for a denser lidar: they occupy a little fewer cells than a real one would.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.grid import Grid
from pipeline.geometry.projection import see
from pipeline.geometry.voxels import representatives
from pipeline.students.packed import Cloud, PackedClouds, pack

GRID = Grid()
NEIGHBOURS = 16
VOXEL = 0.1
SCENE = "scene-0061"
JITTER = 0.3
"""Metres that a point put beside another lies from it."""


def camera_clouds(count: int, points: int) -> PackedClouds:
    """`count` clouds, the six views in turn. Up to 3,000 points: the views as they are, 2,300 to 3,700 points each;
    above: exactly `points` points each."""
    return pack([camera_cloud(number, points) for number in range(count)])


@functools.cache
def camera_cloud(number: int, points: int) -> Cloud:
    """What camera `number` modulo 6 sees; see `camera_clouds`."""
    return cloud_of(_views()[number % 6], points, number)


def cloud_of(seen: npt.NDArray[np.float32], points: int, seed: int) -> Cloud:
    """Of the points (N, 4) x y z in metres, intensity, that a camera sees; see `camera_clouds`."""
    cloud = _densified(seen, points, np.random.default_rng(seed)) if points > 3000 else seen
    xyz = cloud[:, :3]
    features = np.column_stack([cloud[:, 3] / 255, xyz, np.linalg.norm(xyz, axis=1)])
    neighbours = cKDTree(xyz).query(xyz, NEIGHBOURS + 1)[1][:, 1:]
    return Cloud(features.astype(np.float32), neighbours, GRID.cells(xyz))


def _densified(
    seen: npt.NDArray[np.float32], points: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """`points` points (N, 4), one per voxel: those seen, then others beside them."""
    out = seen
    while len(out) < points:
        beside = seen.copy()
        beside[:, :3] += rng.normal(scale=JITTER, size=(len(seen), 3)).astype(np.float32)
        out = np.concatenate([out, beside[GRID.inside(beside)]])
        out = out[np.sort(representatives(np.ascontiguousarray(out[:, :3]), VOXEL, None))]
    return out[:points]


@functools.cache
def _views() -> list[npt.NDArray[np.float32]]:
    """Those of the first keyframe."""
    return views_of(*_keyframe())


def views_of(root: Path, scan: ScanRecord) -> list[npt.NDArray[np.float32]]:
    """The points (N, 4) of each camera's view of a keyframe, one per voxel, in the field of view."""
    points = np.fromfile(root / scan.path, "<f4").reshape(-1, 5)[:, :4]
    points = points[representatives(np.ascontiguousarray(points[:, :3]), VOXEL, None)]
    points = points[GRID.inside(points)]
    return [
        points[see(np.ascontiguousarray(points[:, :3]), image, READER.traits.published_mask).point]
        for image in scan.images
    ]


def _keyframe() -> tuple[Path, ScanRecord]:
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException(
            "real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds nuscenes/"
        )
    root = Path(samples) / "nuscenes"
    for partition in READER.partitions(root, "v1.0-trainval"):
        if isinstance(partition, PartitionRecord) and partition.name == SCENE:
            return root, partition.scans[0]
    raise click.ClickException(f"{root} holds no {SCENE}")

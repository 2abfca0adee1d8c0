"""A real recording, read and projected by ours and by plain numpy, after the published code's arithmetic (all float64)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.reader import Reader
from pipeline.datasets.readers import packaged
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.projection import in_file_frame, see
from pipeline.geometry.voxels import representatives

SENSOR = {"pandaset64": 0, "pandasetgt": 1}
POINTS = {"pandaset64": [106_169, 106_183, 106_207, 107_305], "pandasetgt": [60_599, 60_599, 62_089, 64_715]}
SEEN_OF_FRAME_40 = {
    "pandaset64": [23_746, 13_857, 26_061, 26_397, 26_640, 26_428],
    "pandasetgt": [55_096],
}
"""Counted by the published code itself (datasets/pandaset_for_scalr.py), run on that frame; cameras in its order."""


def partition_of(reader: Reader, root: Path) -> PartitionRecord:
    (partition,) = reader.partitions(root, "")
    assert isinstance(partition, PartitionRecord)
    return partition


def to_world(entry: dict[str, Any]) -> np.ndarray:
    """(4, 4) of a pose, by the textbook formula of a unit quaternion."""
    w, x, y, z = (entry["heading"][axis] for axis in "wxyz")
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [entry["position"][axis] for axis in "xyz"]
    return matrix


def recorded(root: Path, scan: ScanRecord, sensor: int) -> tuple[np.ndarray, pd.DataFrame]:
    """(N, 4) homogeneous points in the world's frame, and their rows."""
    table = pd.read_pickle(root / scan.path)
    table["class"] = pd.read_pickle(root / str(scan.label_path))["class"]
    table = table[table.d == sensor]
    return np.c_[table[["x", "y", "z"]].to_numpy(), np.ones(len(table))], table


@pytest.mark.parametrize("name", SENSOR)
def test_points_labels_and_views_of_every_frame(samples: Path, name: str) -> None:
    root, reader = samples / "pandaset", packaged()[name]
    partition = partition_of(reader, root)
    assert (partition.name, partition.split, partition.problem) == ("002", "train", None)
    assert [scan.name for scan in partition.scans] == ["002/00", "002/01", "002/40", "002/79"]
    poses = json.loads((root / "002/lidar/poses.json").read_text())
    assert len(poses) == 80
    for scan, count in zip(partition.scans, POINTS[name], strict=True):
        frame = int(scan.path[-9:-7])
        world, table = recorded(root, scan, SENSOR[name])
        ego = (np.linalg.inv(to_world(poses[frame])) @ world.T).T[:, :3] - [0, 0, 1.6]
        xyz, intensity = reader.read_points(root, scan)
        assert (xyz.shape, xyz.dtype) == ((count, 3), np.float32)
        np.testing.assert_allclose(xyz, ego, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(intensity, table["i"])
        assert [image.camera for image in scan.images] == list(reader.traits.cameras)
        for image in scan.images:
            _check_view(root, world, xyz, frame, image, reader)
    assert [
        len(
            see(reader.read_points(root, partition.scans[2])[0], image, reader.traits.mask("published")).point
        )
        for image in partition.scans[2].images
    ] == SEEN_OF_FRAME_40[name]


def _check_view(
    root: Path, world: np.ndarray, xyz: np.ndarray, frame: int, image: Any, reader: Reader
) -> None:
    folder = root / f"002/camera/{image.camera}"
    assert image.path == f"002/camera/{image.camera}/{frame:02d}.jpg"
    pose = to_world(json.loads((folder / "poses.json").read_text())[frame])
    k = json.loads((folder / "intrinsics.json").read_text())
    x, y, depth = (np.linalg.inv(pose) @ world.T)[:3]
    u, v = k["fx"] * x / depth + k["cx"], k["fy"] * y / depth + k["cy"]
    published = (depth > 0) & (u > 0) & (u < 1920) & (v > 0) & (v < 1080)
    strict = (depth > 1) & (u > 1) & (u < 1919) & (v > 1) & (v < 1079)
    for rule, mask in (("published", published), ("strict", strict)):
        seen = see(xyz, image, reader.traits.mask(rule))  # type: ignore[arg-type]
        np.testing.assert_array_equal(seen.point, np.flatnonzero(mask))
        # Points are kept in float32, to some 0.01 mm: one pixel in 25,000 or so steps over an edge.
        apart = np.floor(seen.pixel) != np.floor(np.c_[u, v][mask])
        assert apart.any(axis=1).sum() <= 2
        np.testing.assert_allclose(seen.depth, depth[mask], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", SENSOR)
def test_labels_of_a_real_scan(samples: Path, name: str) -> None:
    root, reader = samples / "pandaset", packaged()[name]
    names = json.loads((root / "002/annotations/semseg/classes.json").read_text())
    ours = {"Car": "car", "Road": "road", "Lane Line Marking": "road_marking", "Building": "manmade",
            "Pedestrian": "pedestrian", "Signs": "traffic_sign", "Temporary Construction Barriers": "barrier",
            "Driveway": "driveway", "Ground": "ground", "Reflection": None}  # fmt: skip
    scan = partition_of(reader, root).scans[3]
    labels = reader.read_labels(root, scan)
    _, table = recorded(root, scan, SENSOR[name])
    for raw, wanted in ours.items():
        rows = table["class"].to_numpy() == int(next(number for number, n in names.items() if n == raw))
        index = 255 if wanted is None else reader.traits.classes.index(wanted)
        assert (labels[rows] == index).all(), raw
    assert (labels != 255).mean() > 0.99


@pytest.mark.parametrize("name", SENSOR)
def test_voxels_lie_along_the_worlds_axes(samples: Path, name: str) -> None:
    """As the published code makes them: from the smallest world coordinate, in float64 (D19)."""
    root, reader = samples / "pandaset", packaged()[name]
    assert (reader.traits.voxels("published"), reader.traits.voxels("strict")) == ("file", "scan")
    scan = partition_of(reader, root).scans[2]
    world, _ = recorded(root, scan, SENSOR[name])
    cells = ((world[:, :3] - world[:, :3].min(axis=0)) / 0.1).astype(np.int64)
    sides = cells.max(axis=0) + 1
    first = np.unique((cells[:, 0] * sides[1] + cells[:, 1]) * sides[2] + cells[:, 2], return_index=True)[1]
    xyz, _ = reader.read_points(root, scan)
    ours = representatives(in_file_frame(xyz, scan.steps), 0.1, None)
    assert abs(len(ours) - len(first)) <= 5
    assert len(np.intersect1d(ours, first)) >= len(first) - 10
    assert abs(len(representatives(xyz, 0.1, None)) - len(first)) > 20, (
        "along the scan's axes they are others"
    )


@pytest.mark.parametrize("name", SENSOR)
def test_sizes_of_files_tell_the_number_of_points(samples: Path, name: str) -> None:
    root, reader = samples / "pandaset", packaged()[name]
    size = sum(scan.bytes for scan in partition_of(reader, root).scans)
    assert size / reader.traits.point_bytes == pytest.approx(sum(POINTS[name]), rel=0.03)

"""The toy tree in PandaSet's format: read with pandas and JSON alone, and by our readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from toy_agreement import agreement

from cache_schemas.errors import BadInput
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.pandaset.toy import write_toy
from pipeline.datasets.pandaset.toy_scene import CAMERAS, CLASS_OF, WORLD, camera_time, open_world
from pipeline.datasets.readers import reader_named
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.town.parameters import Parameters
from pipeline.datasets.town.primitives import Label
from pipeline.geometry.projection import see

SIZES: dict[str, Any] = {"scans": 2, "image": (54, 96), "beams": 16, "azimuths": 120}


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def into(pose: dict[str, dict[str, float]], world: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the world in the frame of a sensor or of the car."""
    turn = Rotation.from_quat([pose["heading"][axis] for axis in "xyzw"]).as_matrix()
    return (world - [pose["position"][axis] for axis in "xyz"]) @ turn


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, train=1, val=1, processes=1, **SIZES)
    return root


@pytest.fixture(scope="module", params=["001", "501"])
def sequence(tree: Path, request: pytest.FixtureRequest) -> Path:
    return tree / request.param


def points(sequence: Path, number: int) -> tuple[pd.DataFrame, np.ndarray]:
    lidar = pd.read_pickle(sequence / f"lidar/{number:02d}.pkl.gz")
    return lidar, pd.read_pickle(sequence / f"annotations/semseg/{number:02d}.pkl.gz")["class"].to_numpy()


def test_tables_are_as_pandasets_are(sequence: Path, samples: Path) -> None:
    """Columns, dtypes, order of sensors, keys and classes of the real sequence 002."""
    real = samples / "pandaset" / "002"
    for file in ("lidar/{:02d}.pkl.gz", "annotations/semseg/{:02d}.pkl.gz"):
        ours, theirs = pd.read_pickle(sequence / file.format(1)), pd.read_pickle(real / file.format(1))
        assert ours.dtypes.to_dict() == theirs.dtypes.to_dict()
        assert list(ours.columns) == list(theirs.columns)
        assert ours.index.name == theirs.index.name
    lidar, labels = points(sequence, 1)
    assert len(labels) == len(lidar) > 2000
    assert (np.diff(lidar["d"]) >= 0).all()
    for file in ("lidar/poses", "meta/gps", "camera/back_camera/poses", "camera/left_camera/intrinsics"):
        ours, theirs = (json.loads((folder / f"{file}.json").read_text()) for folder in (sequence, real))
        assert ours[0].keys() == theirs[0].keys() if isinstance(ours, list) else ours.keys() == theirs.keys()
    classes = "annotations/semseg/classes.json"
    assert json.loads((sequence / classes).read_text()) == json.loads((real / classes).read_text())
    assert {path.name for path in (sequence / "camera").iterdir()} == {
        p.name for p in (real / "camera").iterdir()
    }


@pytest.mark.parametrize("lidar", ["pandaset64", "pandasetgt"])
def test_our_readers_read_it(tree: Path, lidar: str) -> None:
    """The scan's frame is 1.6 m above the ego frame, whose origin lies 0.1 m above the road."""
    reader = reader_named(lidar)
    reader.check(tree, "")
    found = {partition.name: partition for partition in reader.partitions(tree, "")}
    assert {name: partition.split for name, partition in found.items()} == {"001": "train", "501": "val"}
    for partition in found.values():
        assert isinstance(partition, PartitionRecord)
        assert partition.problem is None
        for scan in partition.scans:
            xyz, _ = read_points(reader, tree, scan)
            labels = read_labels(reader, tree, scan, len(xyz))
            road = labels == reader.traits.classes.index("road")
            assert abs(np.median(xyz[road, 2]) + 1.7) < 0.15
            seen = [len(see(xyz, image, reader.traits.mask("published")).point) for image in scan.images]
            assert len(seen) == len(reader.traits.cameras)
            assert min(seen) > 0.1 * len(xyz)


def test_the_first_latitude_tells_the_split(sequence: Path) -> None:
    first = json.loads((sequence / "meta/gps.json").read_text())[0]["lat"]
    assert (first > 37.6) == (sequence.name == "001")


def test_the_two_lidars_look_where_theirs_look(sequence: Path) -> None:
    """In the car's frame, x right and y forward: all around, and 60 degrees ahead, 20 high."""
    poses = json.loads((sequence / "lidar/poses.json").read_text())
    assert np.abs(list(poses[0]["position"].values())).max() < 1e-9, "the world begins where the car does"
    for number in range(2):
        lidar, labels = points(sequence, number)
        ego = into(poses[number], lidar[["x", "y", "z"]].to_numpy())
        assert abs(np.median(ego[labels == CLASS_OF[Label.ROAD], 2]) + 0.1) < 0.15
        azimuth = np.degrees(np.arctan2(ego[:, 1], ego[:, 0]))
        around, ahead = azimuth[lidar["d"] == 0], azimuth[lidar["d"] == 1]
        assert len(np.unique(around // 30)) == 12
        far = np.linalg.norm(ego, axis=1)[lidar["d"] == 1] > 10
        assert 25 < np.abs(ahead[far] - 90).max() < 36
        assert lidar["i"].max() <= 255
        assert (lidar["i"] % 1 == 0).all()


def test_points_fall_on_pixels_of_their_class(sequence: Path) -> None:
    world = open_world(sequence.name, Parameters(seed=0, world=WORLD, **SIZES))
    agreed, sure = np.zeros(2, int), np.zeros(2, int)
    for number, time in enumerate(world.times):
        lidar, labels = points(sequence, number)
        for camera in CAMERAS:
            folder = sequence / "camera" / camera
            lens = json.loads((folder / "intrinsics.json").read_text())
            pose = json.loads((folder / "poses.json").read_text())[number]
            place = into(pose, lidar[["x", "y", "z"]].to_numpy())
            with np.errstate(divide="ignore", invalid="ignore"):
                pixel = place[:, :2] / place[:, 2:] * (lens["fx"], lens["fy"]) + (lens["cx"], lens["cy"])
            seen = (place[:, 2] > 1) & (pixel > 1).all(axis=1) & (pixel < (95, 53)).all(axis=1)
            at = world.drive.pose(camera_time(time, camera)) @ world.cameras[camera][1]
            for sensor in (0, 1):
                chosen = seen & (lidar["d"].to_numpy() == sensor)
                found = agreement(
                    world.town,
                    (world.cameras[camera][0], at),
                    pixel[chosen],
                    place[chosen, 2],
                    labels[chosen],
                    CLASS_OF,
                )
                agreed[sensor] += found[0]
                sure[sensor] += found[1]
    assert (sure > 300).all()
    assert (agreed / sure > 0.98).all()


def test_processes_and_later_scenes_change_no_byte(tmp_path: Path) -> None:
    small = SIZES | {"scans": 1, "image": (18, 32)}
    write_toy(tmp_path / "a", train=2, val=1, processes=2, **small)
    write_toy(tmp_path / "b", train=1, val=1, processes=1, **small)
    assert write_toy(tmp_path / "b", train=2, val=1, processes=1, **small).written == ("002",)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    with pytest.raises(BadInput, match="scans 101"):
        write_toy(tmp_path / "c", scans=101)
    (tmp_path / "d" / "002" / "lidar").mkdir(parents=True)
    with pytest.raises(BadInput, match="did not write"):
        write_toy(tmp_path / "d", train=1, val=0, processes=1, **small)

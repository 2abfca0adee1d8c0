"""Whole and broken trees in PandaSet's layout: what is found, what is left out, and what is said of the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandaset_tree import CAMERAS, EL_CAMINO, POINTS, SAN_FRANCISCO, lidar_table, write_sequence, write_table

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.index import make_cue, make_index, why_absent
from pipeline.datasets.pandaset.classes import CLASS_OF_RAW, CLASSES
from pipeline.datasets.pandaset.reader import PANDAR64, PANDARGT
from pipeline.datasets.reader import AbsentPartition
from pipeline.datasets.records import PartitionRecord, ScanRecord


def partitions(root: Path, version: str = "", reader: Any = PANDAR64) -> list[Any]:
    return list(reader.partitions(root, version))


def problem(root: Path, reader: Any = PANDAR64) -> str:
    """Why the only sequence cannot be used."""
    (partition,) = reader.partitions(root, "")
    assert partition.problem is not None
    return str(partition.problem)


def scans(root: Path, reader: Any = PANDAR64) -> tuple[ScanRecord, ...]:
    (partition,) = reader.partitions(root, "")
    assert isinstance(partition, PartitionRecord)
    assert partition.problem is None, partition.problem
    return partition.scans


def test_classes() -> None:
    """facts.md's table, group by group."""
    assert len(CLASSES) == 17
    groups = {
        "road": [7], "traffic_sign": [36, 38], "barrier": [35, 39], "pedestrian": [30, 31], "vegetation": [5],
        "road_marking": [8, 9, 10], "sidewalk": [11], "manmade": [41, 42], "traffic_cone": [34, 37], "car": [13],
        "motorcycle": [18], "truck": [14, 15, 16], "bus": [23], "bicycle": [26],
        "other_vehicle": [17, 19, 20, 21, 27, 28, 29], "ground": [6], "driveway": [12],
    }  # fmt: skip
    ignored = [0, 1, 2, 3, 4, 22, 24, 25, 32, 33, 40]
    assert sorted([raw for group in groups.values() for raw in group] + ignored) == list(range(43))
    for name, group in groups.items():
        assert {CLASS_OF_RAW[raw] for raw in group} == {CLASSES.index(name)}
    assert {CLASS_OF_RAW[raw] for raw in ignored} == {255}


def test_splits_by_place_and_sequences_without_annotations(tmp_path: Path) -> None:
    write_sequence(tmp_path, "001", latitude=SAN_FRANCISCO)
    write_sequence(tmp_path, "002", latitude=EL_CAMINO)
    write_sequence(tmp_path, "003", latitude=SAN_FRANCISCO, labels=False)
    published = partitions(tmp_path)
    assert [(found.name, found.split) for found in published] == [
        ("001", "train"),
        ("002", "val"),
        ("003", "train"),
    ]
    assert published[2] == AbsentPartition("003", "train", 3, why="without annotations/semseg")
    everything = partitions(tmp_path, "all")
    assert [found.problem for found in everything] == [None, None, None]
    assert [found.member_digests()["labels"] is None for found in everything] == [False, False, True]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data", "001")
    write_sequence(tmp_path / "data", "002", labels=False)
    write_sequence(tmp_path / "data", "003", frames=())
    dataset = Dataset(reader="pandaset64", root=str(tmp_path / "data"))
    index, _ = make_index(tmp_path, "pandaset64", dataset)
    assert [entry.name for entry in index.partitions] == ["001"]
    assert why_absent(index.absent) == (
        "1 partition(s) without annotations/semseg: 002; 1 partition(s) without any file: 003"
    )


def test_the_two_lidars_share_files_and_split_rows(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    table = pd.read_pickle(tmp_path / "001/lidar/05.pkl.gz")
    for reader, sensor, cameras in ((PANDAR64, 0, list(CAMERAS)), (PANDARGT, 1, ["front_camera"])):
        scan = scans(tmp_path, reader)[2]
        assert scan.path == "001/lidar/05.pkl.gz"
        assert [image.camera for image in scan.images] == cameras
        assert {(image.height, image.width) for image in scan.images} == {(36, 64)}
        xyz, intensity = read_points(reader, tmp_path, scan)
        rows = table[table.d == sensor]
        np.testing.assert_array_equal(intensity, rows.i)
        # The frame is turned by 1 rad (quaternion of angle 2 * 0.5) and stands at (15, 2.5, 0.1).
        x, y = rows.x - 15.0, rows.y - 2.5
        np.testing.assert_allclose(xyz[:, 0], np.cos(1.0) * x + np.sin(1.0) * y, atol=1e-5)
        np.testing.assert_allclose(xyz[:, 1], -np.sin(1.0) * x + np.cos(1.0) * y, atol=1e-5)
        np.testing.assert_allclose(xyz[:, 2], rows.z - 0.1 - 1.6, atol=1e-5)
        labels = read_labels(reader, tmp_path, scan, len(xyz))
        np.testing.assert_array_equal(labels, np.array(CLASS_OF_RAW)[rows.index])


def test_labels_alone_read_the_lidar_file_by_themselves(tmp_path: Path) -> None:
    """Also after another scan's points, and after the file was replaced."""
    write_sequence(tmp_path)
    first, second, _ = scans(tmp_path)
    PANDAR64.read_points(tmp_path, first)
    np.testing.assert_array_equal(
        PANDAR64.read_labels(tmp_path, second), PANDAR64.read_labels(tmp_path, first)
    )
    table = pd.read_pickle(tmp_path / first.path)
    table["d"] = 1 - table.d
    write_table(tmp_path / first.path, table)
    os.utime(tmp_path / first.path, ns=(1, 1))
    assert len(PANDAR64.read_labels(tmp_path, first)) == POINTS // 3


def test_uncompressed_tables(tmp_path: Path) -> None:
    write_sequence(tmp_path / "zipped")
    write_sequence(tmp_path / "plain", suffix=".pkl")
    for zipped, plain in zip(scans(tmp_path / "zipped"), scans(tmp_path / "plain"), strict=True):
        assert plain.path == zipped.path.removesuffix(".gz")
        for one, other in zip(
            PANDAR64.read_points(tmp_path / "zipped", zipped),
            PANDAR64.read_points(tmp_path / "plain", plain),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(
            PANDAR64.read_labels(tmp_path / "zipped", zipped), PANDAR64.read_labels(tmp_path / "plain", plain)
        )


def test_of_both_forms_the_released_one_is_read(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    write_sequence(tmp_path, frames=(1, 6), suffix=".pkl")
    assert [scan.path.removeprefix("001/lidar/") for scan in scans(tmp_path)] == [
        "00.pkl.gz",
        "01.pkl.gz",
        "05.pkl.gz",
        "06.pkl",
    ]


def test_a_missing_frame_shifts_no_pose(tmp_path: Path) -> None:
    """A gap in the numbering is allowed: a frame's number says which pose, image and label are its own."""
    write_sequence(tmp_path, frames=range(8))
    whole = scans(tmp_path)
    for number in (0, 3):
        for path in tmp_path.glob(f"001/**/{number:02d}.*"):
            path.unlink()
    assert scans(tmp_path) == tuple(scan for scan in whole if scan.name not in ("001/00", "001/03"))


def test_poses_are_part_of_what_scans_and_views_are(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    (before,) = partitions(tmp_path)
    path = tmp_path / "001/lidar/poses.json"
    poses = json.loads(path.read_text())
    poses[5]["position"]["x"] += 0.5
    path.write_text(json.dumps(poses))
    (after,) = partitions(tmp_path)
    changed = {
        store for store, digest in before.member_digests().items() if after.member_digests()[store] != digest
    }
    assert changed == {"scans", "views"}
    poses[3]["position"]["x"] += 0.5  # of a frame that is not there
    path.write_text(json.dumps(poses))
    (same,) = partitions(tmp_path)
    assert same.member_digests() == after.member_digests()


@pytest.mark.parametrize(
    "touched", ["lidar/06.pkl.gz", "camera/front_camera/06.jpg", "annotations/semseg/06.pkl.gz"]
)
def test_a_new_file_is_a_cue(tmp_path: Path, touched: str) -> None:
    write_sequence(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, ns=(1, 1))  # clocks of file systems are coarse
    dataset = Dataset(reader="pandasetgt", root=str(tmp_path))
    before = make_cue(dataset)
    (tmp_path / "001" / touched).write_bytes(b"")
    assert make_cue(dataset) != before


def test_a_new_sequence_is_a_cue(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, ns=(1, 1))  # clocks of file systems are coarse
    dataset = Dataset(reader="pandasetgt", root=str(tmp_path))
    before = make_cue(dataset)
    write_sequence(tmp_path, "002")
    assert make_cue(dataset) != before


def test_frames_can_be_named_in_splits(tmp_path: Path) -> None:
    write_sequence(tmp_path / "data")
    splits: Any = {"train": ["001/00", "001/01"], "val": ["001/05"]}
    dataset = Dataset(reader="pandaset64", root=str(tmp_path / "data"), splits=splits)
    index, _ = make_index(tmp_path, "pandaset64", dataset)
    assert [(entry.name, entry.split, entry.scans) for entry in index.partitions] == [
        ("001-train", "train", 2),
        ("001-val", "val", 1),
    ]


def test_scans_of_different_sequences_have_different_names(tmp_path: Path) -> None:
    """Random draws are keyed by them."""
    write_sequence(tmp_path, "001")
    write_sequence(tmp_path, "002")
    names = [scan.name for partition in partitions(tmp_path) for scan in partition.scans]
    assert len(set(names)) == 6


def unlink(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def cut(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).write_text((root / path).read_text()[:-20])


def edit(path: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda root: (root / path).write_text(json.dumps(change(json.loads((root / path).read_text()))))


BACK = "001/camera/back_camera"


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (unlink("001/annotations/semseg/05.pkl.gz"), "1 of its 3 frames lack labels, the first 001/annotations/semseg/05"),
        (unlink("001/lidar/poses.json"), r"lidar/poses\.json is missing"),
        (edit("001/lidar/poses.json", lambda poses: poses[:5]), r"1 of its 3 frames lack a pose, the first 05\.pkl\.gz"),
        (unlink(f"{BACK}/poses.json"), r"back_camera/poses\.json is missing"),
        (edit(f"{BACK}/poses.json", lambda poses: poses[:5]), "1 of its 3 frames lack a pose of back_camera, the first 05"),
        (unlink(f"{BACK}/intrinsics.json"), r"back_camera/intrinsics\.json is missing"),
        (unlink(f"{BACK}/01.jpg"), r"lack the image of back_camera, the first 001/camera/back_camera/01\.jpg"),
        (unlink("001/meta/gps.json"), r"gps\.json is missing"),
        (cut("001/lidar/poses.json"), r"lidar/poses\.json is no valid JSON, perhaps cut short"),
        (cut(f"{BACK}/poses.json"), r"back_camera/poses\.json is no valid JSON, perhaps cut short"),
        (cut(f"{BACK}/intrinsics.json"), r"intrinsics\.json is no valid JSON, perhaps cut short"),
        (cut("001/meta/gps.json"), r"gps\.json is no valid JSON, perhaps cut short"),
        (edit("001/meta/gps.json", lambda entries: []), "does not begin with a latitude"),
        (edit("001/lidar/poses.json", lambda poses: [{"heading": {}}]), "no list of poses"),
        (edit("001/lidar/poses.json", lambda poses: {"poses": poses}), "no list of poses"),
        (edit(f"{BACK}/intrinsics.json", lambda entry: {"fx": 1.0}), "does not give fx, fy, cx and cy"),
    ],
)  # fmt: skip
def test_a_broken_sequence_says_why(tmp_path: Path, breaks: Callable[[Path], None], told: str) -> None:
    write_sequence(tmp_path)
    breaks(tmp_path)
    assert re.search(told, problem(tmp_path)), problem(tmp_path)


def test_a_pose_that_is_no_rotation(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    path = tmp_path / "001/lidar/poses.json"
    poses = json.loads(path.read_text())
    poses[1]["heading"]["w"] = 3.0
    path.write_text(json.dumps(poses))
    assert "the pose of frame 01 is no rotation and position" in problem(tmp_path)


def test_an_image_that_is_none(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    (tmp_path / BACK / "01.jpg").write_bytes(b"not a picture")
    assert "back_camera/01.jpg is no image" in problem(tmp_path)
    assert scans(tmp_path, PANDARGT), "the other lidar needs the front camera alone"


def test_an_empty_sequence(tmp_path: Path) -> None:
    write_sequence(tmp_path, "001", frames=())
    write_sequence(tmp_path, "002")
    empty, whole = partitions(tmp_path)
    assert empty == AbsentPartition("001", "train", 8)
    assert len(whole.scans) == 3


def test_roots_that_hold_no_sequence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        PANDAR64.check(tmp_path / "none", "")
    with pytest.raises(BadInput, match=r"holds no sequence of PandaSet, a folder such as 001/lidar\.$"):
        PANDAR64.check(tmp_path, "")
    write_sequence(tmp_path)
    with pytest.raises(BadInput, match=f"itself a sequence: give {tmp_path}\\."):
        PANDAR64.check(tmp_path / "001", "")
    write_sequence(tmp_path / "above" / "pandaset")
    with pytest.raises(BadInput, match=rf"Did you mean {tmp_path}/above/pandaset\?"):
        PANDAR64.check(tmp_path / "above", "")
    with pytest.raises(BadInput, match="has no version 'v1': leave `version` out"):
        PANDAR64.check(tmp_path, "v1")
    PANDAR64.check(tmp_path, "all")


def test_labels_of_another_length(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    path = tmp_path / "001/annotations/semseg/01.pkl.gz"
    write_table(path, pd.DataFrame({"class": np.arange(POINTS - 1)}))
    with pytest.raises(BadInput, match=f"01.pkl.gz has {POINTS - 1} labels for the {POINTS} points of"):
        PANDAR64.read_labels(tmp_path, scans(tmp_path)[1])


def test_a_label_outside_the_map_is_told_with_its_count(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    classes = np.full(POINTS, 7)
    classes[[0, 2, 5]] = 43, 99, -1  # rows 2 and 5 are of the other lidar
    write_table(tmp_path / "001/annotations/semseg/01.pkl.gz", pd.DataFrame({"class": classes}))
    scan = scans(tmp_path)[1]
    with pytest.raises(BadInput, match="holds 1 labels of classes that PandaSet does not have, the first 43"):
        PANDAR64.read_labels(tmp_path, scan)
    with pytest.raises(BadInput, match="holds 2 labels of classes that PandaSet does not have, the first 99"):
        PANDARGT.read_labels(tmp_path, scan)


def test_points_that_are_not_finite(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    table = lidar_table(np.random.default_rng(0))
    table.loc[3, "y"] = np.nan
    write_table(tmp_path / "001/lidar/01.pkl.gz", table)
    with pytest.raises(BadInput, match=r"01\.pkl\.gz holds 1 of 20 points with NaN"):
        read_points(PANDAR64, tmp_path, scans(tmp_path)[1])


def test_a_frame_without_points_of_a_lidar(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    write_table(tmp_path / "001/lidar/01.pkl.gz", lidar_table(np.random.default_rng(0)).assign(d=0))
    with pytest.raises(BadInput, match=r"01\.pkl\.gz has no points"):
        read_points(PANDARGT, tmp_path, scans(tmp_path)[1])


def test_a_sensor_that_is_none_of_the_two(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    write_table(tmp_path / "001/lidar/01.pkl.gz", lidar_table(np.random.default_rng(0)).assign(d=2))
    with pytest.raises(BadInput, match=f"column d says sensor 2 for {POINTS} of {POINTS} points"):
        PANDAR64.read_points(tmp_path, scans(tmp_path)[1])


def test_a_table_with_other_columns(tmp_path: Path) -> None:
    write_sequence(tmp_path)
    shutil.copy(tmp_path / "001/annotations/semseg/01.pkl.gz", tmp_path / "001/lidar/01.pkl.gz")
    with pytest.raises(
        BadInput, match=r"01\.pkl\.gz has the columns class int64; it should have x \(floating-point\)"
    ):
        PANDAR64.read_points(tmp_path, scans(tmp_path)[1])

"""The readers in examples/ on the real recordings that they are for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import griddle
from pipeline.geometry.calibration import STRICT, MaskRule
from pipeline.geometry.projection import see

EXAMPLES = Path(__file__).parents[2] / "examples"
BORDERLESS = MaskRule(beyond=1.0, along="depth", first=0, last=0, arithmetic="float64")


def own(name: str) -> griddle.Reader:
    return griddle.reader_named(f"{EXAMPLES}/{name}")


def kitti_counts(root: Path, frame: str, border: int) -> int:
    """Points that the colour camera sees beyond 1 m, by the matrices of KITTI's own devkit: P2 · R0_rect · Tr · x."""
    lines = (root / "calib" / f"{frame}.txt").read_text().split("\n")
    given = {line.split(":")[0]: np.array(line.split(":")[1].split(), float) for line in lines if ":" in line}
    points = np.fromfile(root / "velodyne" / f"{frame}.bin", "<f4").reshape(-1, 4)
    points[:, 3] = 1
    to_camera, rectify = np.eye(4), np.eye(4)
    to_camera[:3] = given["Tr_velo_to_cam"].reshape(3, 4)
    rectify[:3, :3] = given["R0_rect"].reshape(3, 3)
    u, v, w = given["P2"].reshape(3, 4) @ rectify @ to_camera @ points.T.astype(float)
    depth = (rectify @ to_camera @ points.T.astype(float))[2]
    width, height = {"000000": (1224, 370)}.get(frame, (1242, 375))
    u, v = u / w, v / w
    seen = (depth > 1) & (u > border) & (u < width - border) & (v > border) & (v < height - border)
    return int(seen.sum())


def test_kitti_object_frames_see_what_their_matrices_say(samples: Path) -> None:
    root = samples / "kitti" / "object" / "training"
    reader = own("kitti_object.py:Reader")
    (partition,) = reader.partitions(root, "")
    assert isinstance(partition, griddle.PartitionRecord)
    assert [(s.name, s.images[0].width, s.images[0].height) for s in partition.scans] == [
        ("000000", 1224, 370),
        ("000001", 1242, 375),
        ("000002", 1242, 375),
    ]
    counts = {}
    for scan in partition.scans:
        xyz, intensity = reader.read_points(root, scan)
        assert xyz.dtype == intensity.dtype == np.float32
        assert 0 <= intensity.min() < intensity.max() < 1
        for rule, border in ((BORDERLESS, 0), (STRICT, 1)):
            found = len(see(xyz, scan.images[0], rule).point)
            assert found == kitti_counts(root, scan.name, border)
            counts[scan.name, border] = found
    # The samples' README counts without a border, and by depth from the colour camera.
    assert [counts[f"00000{n}", 0] for n in range(3)] == [20_285, 18_630, 20_210]


@pytest.mark.parametrize(
    ("name", "folder", "scans"),
    [("Keyframes", "nuscenes_lidarseg", 20), ("KittiScans", "semantickitti/scan_with_labels", 1)],
)
def test_labelled_scans_have_a_label_a_point(samples: Path, name: str, folder: str, scans: int) -> None:
    root, reader = samples / folder, own(f"labelled_scans.py:{name}")
    (partition,) = reader.partitions(root, "")
    assert isinstance(partition, griddle.PartitionRecord)
    assert len(partition.scans) == scans
    scan = partition.scans[-1]
    xyz, _ = reader.read_points(root, scan)
    labels = reader.read_labels(root, scan)
    assert labels.shape == (len(xyz),)
    low = np.median(xyz[:, 2])
    ground = [
        reader.traits.classes.index(n) for n in ("driveable_surface", "road") if n in reader.traits.classes
    ]
    assert np.median(xyz[np.isin(labels, ground), 2]) < low  # what is called road lies low


def test_a_calibration_that_is_cut_short_names_what_is_missing(tmp_path: Path) -> None:
    for folder in ("velodyne", "calib", "image_2"):
        (tmp_path / folder).mkdir()
    (tmp_path / "velodyne" / "000000.bin").write_bytes(bytes(16))
    reader = own("kitti_object.py:Reader")
    with pytest.raises(griddle.BadInput, match=r"data_object_calib\.zip"):
        list(reader.partitions(tmp_path, ""))
    (tmp_path / "calib" / "000000.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(griddle.BadInput, match="has no P2 of 12 numbers"):
        list(reader.partitions(tmp_path, ""))


def test_hidden_files_beside_recordings_are_passed_over(samples: Path, tmp_path: Path) -> None:
    root = tmp_path / "keyframes"
    shutil.copytree(samples / "nuscenes_lidarseg", root)
    keyframes = own("labelled_scans.py:Keyframes")
    (before,) = keyframes.partitions(root, "")
    (root / "._00").mkdir()
    for path in [*root.glob("*/*.bin"), root / "._00" / "points.bin"]:
        (path.parent / f"._{path.name}").write_bytes(bytes(10))
    assert list(keyframes.partitions(root, "")) == [before]
    frames = tmp_path / "kitti"
    shutil.copytree(samples / "kitti" / "object" / "training", frames)
    kitti = own("kitti_object.py:Reader")
    (before,) = kitti.partitions(frames, "")
    for folder in ("velodyne", "calib", "image_2"):
        (frames / folder / "._000000.bin").write_bytes(bytes(10))
    assert list(kitti.partitions(frames, "")) == [before]

"""A small tree of SemanticKITTI, made of numbers drawn at random; and the real scans of KITTI laid out as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kitti_tree import WHOLE, calibration_text
from PIL import Image

from pipeline.datasets.reader import AbsentPartition
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.semantic_kitti.reader import READER


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sequence of `scans` scans below tmp_path/root, and gives its folder."""

    def write(
        name: str = "00",
        scans: int = 3,
        images: bool = True,
        labels: bool = True,
        size: tuple[int, int] = (36, 120),
    ) -> Path:
        folder = tmp_path / "root" / "dataset" / "sequences" / name
        random = np.random.default_rng(int(name))
        for kind in ("velodyne", *(["image_2"] if images else []), *(["labels"] if labels else [])):
            (folder / kind).mkdir(parents=True)
        (folder / "calib.txt").write_text(WHOLE)
        for number in range(scans):
            points = random.uniform(-20, 20, (10 + number, 4)).astype("<f4")
            (folder / "velodyne" / f"{number:06d}.bin").write_bytes(points.tobytes())
            if labels:
                ids = random.choice([0, 10, 40, 252], len(points)) | (7 << 16)
                (folder / "labels" / f"{number:06d}.label").write_bytes(ids.astype("<u4").tobytes())
            if images:
                Image.new("RGB", size[::-1]).save(folder / "image_2" / f"{number:06d}.png")
        return folder

    return write


@pytest.fixture
def found(tmp_path: Path) -> Callable[[], dict[str, PartitionRecord | AbsentPartition]]:
    """What the reader finds in tmp_path/root, by name."""

    def read() -> dict[str, PartitionRecord | AbsentPartition]:
        READER.check(tmp_path / "root", "")
        return {partition.name: partition for partition in READER.partitions(tmp_path / "root", "")}

    return read


@pytest.fixture(scope="session")
def real(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences of KITTI's recordings: 00 and 01, of object frames 0 and of 1 and 2; 02, with its grey image as colour."""
    root = tmp_path_factory.mktemp("kitti")
    frames = samples / "kitti" / "object" / "training"
    for sequence, numbers in (("00", (0,)), ("01", (1, 2))):
        folder = root / "dataset" / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        (folder / "image_2").mkdir()
        for place, number in enumerate(numbers):
            (folder / f"velodyne/{place:06d}.bin").symlink_to(frames / f"velodyne/{number:06d}.bin")
            (folder / f"image_2/{place:06d}.png").symlink_to(frames / f"image_2/{number:06d}.png")
        lines = (frames / f"calib/{numbers[0]:06d}.txt").read_text().splitlines()
        rows = {line.split(":")[0]: np.array(line.split()[1:], float) for line in lines if ":" in line}
        turn = rows["R0_rect"].reshape(3, 3) @ rows["Tr_velo_to_cam"].reshape(3, 4)
        cameras = {f"P{k}": rows[f"P{k}"] for k in range(4)}
        (folder / "calib.txt").write_text(calibration_text(**cameras, Tr=turn))
    folder = root / "dataset" / "sequences" / "02"
    (folder / "velodyne").mkdir(parents=True)
    (folder / "image_2").mkdir()
    scan = samples / "semantickitti" / "sequence_00"
    (folder / "velodyne" / "000000.bin").symlink_to(scan / "velodyne" / "000000.bin")
    (folder / "image_2" / "000000.png").symlink_to(scan / "image_0" / "000000.png")
    calibration = root / "calib" / "dataset" / "sequences" / "02" / "calib.txt"
    calibration.parent.mkdir(parents=True)
    calibration.symlink_to(scan / "calib.txt")
    return root

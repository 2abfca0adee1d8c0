"""Readers of PandaSet's released tree: two lidars in the same files, each a dataset of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cache_schemas.errors import BadInput
from pipeline.datasets.listing import empty_beside, names_of
from pipeline.datasets.pandaset.classes import CLASS_OF_RAW, CLASSES
from pipeline.datasets.pandaset.sequence import frames, read_sequence
from pipeline.datasets.reader import AbsentPartition, Reader, Traits, Typical
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.geometry.calibration import MaskRule

if TYPE_CHECKING:
    import numpy as np

POINTS = {"x": "f", "y": "f", "z": "f", "i": "f", "t": "f", "d": "iu"}
"""Columns of a lidar file and the kinds of their dtypes: metres in the world's frame, intensity, seconds, sensor."""
LABELS = {"class": "iu"}
ANNOTATIONS = Path("annotations") / "semseg"
SENSORS = {0: "Pandar64", 1: "PandarGT"}

PANDAR64_TRAITS = Traits(
    reader="pandaset64",
    reader_version=1,
    frame="ego, 1.6 m above its origin: x right, y forward, z up",
    cameras=(
        "back_camera",
        "front_camera",
        "front_left_camera",
        "front_right_camera",
        "left_camera",
        "right_camera",
    ),
    classes=CLASSES,
    label_map_version=1,
    # ScaLR's released code, datasets/pandaset_for_scalr.py, like all that is called published here.
    intensity=(18.23640649, 25.86983417),
    intensity_range=(0.0, 255.0),
    reach=300.0,  # of 76 real frames the farthest point is at 201 m
    published_mask=MaskRule(beyond=0.0, along="depth", first=0, last=0, arithmetic="float64"),
    published_voxels="file",
    # Of the gzipped file, which holds the points of both lidars.
    point_bytes=37.8,
    # Means over four real frames; 80 frames a sequence.
    typical=Typical(points=106_500, partition_scans=80, seen=0.225, kept=0.145, edge=0.085, whole=0.61),
)
PANDARGT_TRAITS = replace(
    PANDAR64_TRAITS,
    reader="pandasetgt",
    cameras=("front_camera",),
    intensity=(23.06113565, 16.76273235),
    reach=450.0,  # likewise, 307 m
    point_bytes=64.8,
    typical=Typical(points=62_000, partition_scans=80, seen=0.887, kept=0.416, edge=0.153, whole=0.4),
)


class PandaSetReader(Reader):
    """Reader of one of the two lidars, from any number of sequences.

    As in the published code, sequences without semantic annotations (27 of 103) are left out; `version: all` takes
    them, too, for pretraining.
    """

    def __init__(self, traits: Traits, sensor: int) -> None:
        self.traits = traits
        self._sensor = sensor
        self._last = threading.local()

    def points_about(self, scan: ScanRecord) -> int:
        """As `Reader.points_about`: files that are not gzipped are twice as large."""
        return super().points_about(scan) // (1 if scan.path.endswith(".gz") else 2)

    def check(self, root: Path, version: str) -> None:
        super().check(root, version)
        if version not in ("", "all"):
            raise BadInput(
                f"PandaSet has no version {version!r}: leave `version` out for the sequences with semantic "
                f"annotations, as published, or write `version: all` for all of them."
            )
        if not _sequences(root):
            raise BadInput(f"{root} holds no sequence of PandaSet, a folder such as 001/lidar.{_hint(root)}")

    def cue(self, root: Path, version: str) -> list[Path]:
        watched = [root]
        for name in _sequences(root):
            sequence = root / name
            watched += [sequence / "meta" / "gps.json", sequence / "annotations" / "semseg"]
            watched += [sequence / "lidar", sequence / "lidar" / "poses.json"]
            for camera in self.traits.cameras:
                folder = sequence / "camera" / camera
                watched += [folder, folder / "poses.json", folder / "intrinsics.json"]
        return watched

    def partitions(self, root: Path, version: str) -> Iterator[PartitionRecord | AbsentPartition]:
        sequences = _sequences(root)
        labels = {root / name / ANNOTATIONS: _count(root / name / ANNOTATIONS) for name in sequences}
        for name in sequences:
            partition = read_sequence(root, name, self.traits.cameras)
            yield _with_annotations(partition, root / name / ANNOTATIONS, labels, version)

    def read_points(self, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        from pipeline.datasets.pandaset.pickles import read_columns
        from pipeline.geometry.projection import along_steps

        columns = read_columns(root / scan.path, POINTS)
        rows = self._rows(root / scan.path, columns["d"])
        world = np.stack([columns[axis][rows] for axis in "xyz"], axis=1).astype(np.float64)
        return along_steps(world, scan.steps).astype(np.float32), columns["i"][rows].astype(np.float32)

    def read_labels(self, root: Path, scan: ScanRecord) -> np.ndarray:
        import numpy as np

        from pipeline.datasets.pandaset.pickles import read_columns

        if scan.label_path is None:
            raise BadInput(f"scan {scan.name} has no semantic annotations.")
        lidar, path = root / scan.path, root / scan.label_path
        raw = read_columns(path, LABELS)["class"]
        rows = self._known_rows(lidar)
        if len(raw) != len(rows):
            raise BadInput(
                f"scan {scan.name}: {path} has {len(raw)} labels for the {len(rows)} points of {lidar}"
            )
        raw = raw[rows]
        unknown = (raw < 0) | (raw >= len(CLASS_OF_RAW))
        if unknown.any():
            raise BadInput(
                f"scan {scan.name}: {path} holds {int(unknown.sum())} labels of classes that PandaSet does not have, "
                f"the first {int(raw[unknown][0])}; it has 1 to {len(CLASS_OF_RAW) - 1}. Download the file again."
            )
        return np.array(CLASS_OF_RAW, dtype=np.uint8)[raw]

    def _rows(self, path: Path, sensor: np.ndarray) -> np.ndarray:
        """Which rows of a lidar file are this lidar's, (rows,) bool; kept until this thread reads another file."""
        wrong = sensor > max(SENSORS)
        wrong |= sensor < min(SENSORS)
        if wrong.any():
            raise BadInput(
                f"{path}: column d says sensor {int(sensor[wrong][0])} for {int(wrong.sum())} of {len(sensor)} points; "
                f"there are {', '.join(f'{number} ({name})' for number, name in SENSORS.items())}"
            )
        rows: np.ndarray = sensor == self._sensor
        self._last.read = (path, _stamp(path), rows)
        return rows

    def _known_rows(self, path: Path) -> np.ndarray:
        """The same; labels are read right after points, and reading a file takes longer than all the rest."""
        from pipeline.datasets.pandaset.pickles import read_columns

        last = getattr(self._last, "read", None)
        if last is not None and last[:2] == (path, _stamp(path)):
            rows: np.ndarray = last[2]
            return rows
        return self._rows(path, read_columns(path, POINTS)["d"])


PANDAR64 = PandaSetReader(PANDAR64_TRAITS, sensor=0)
PANDARGT = PandaSetReader(PANDARGT_TRAITS, sensor=1)
READERS = (PANDAR64, PANDARGT)


def _sequences(root: Path) -> list[str]:
    """Folders with a lidar's; links that lead nowhere included, where they are named like a sequence: they are no absence."""
    return [
        name
        for name in names_of(root)
        if os.path.lexists(root / name / "lidar")
        or (name.isdigit() and os.path.islink(root / name) and not os.path.exists(root / name))
    ]


def _hint(root: Path) -> str:
    """Where the sequences may be instead."""
    if (root / "lidar").is_dir():
        return f" It is itself a sequence: give {root.parent}."
    below = next(root.glob("*/*/lidar"), None)
    return f" Did you mean {below.parent.parent}?" if below else ""


def _count(folder: Path) -> int:
    """Of its tables; 0 where it cannot be reached, too."""
    try:
        return len(frames(folder))
    except BadInput:
        return 0


def _with_annotations(
    partition: PartitionRecord | AbsentPartition, folder: Path, labels: Mapping[Path, int], version: str
) -> PartitionRecord | AbsentPartition:
    """A partition as it is used: without annotations it is left out under the published version.

    Args:
        folder: of its annotations. labels: how many tables each sequence's folder has.
    """
    if isinstance(partition, AbsentPartition) or labels[folder]:
        return partition
    try:
        problem = empty_beside(folder, labels)
    except BadInput as error:
        problem = str(error)
    if problem is not None:
        return replace(partition, problem=partition.problem or problem)
    if version == "all":
        return partition
    return AbsentPartition(
        partition.name, partition.split, len(partition.scans), why="without annotations/semseg"
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size

"""SemanticKITTI: lidar, the left colour camera and point labels of KITTI's odometry sequences 00 to 21."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cache_schemas.errors import BadInput
from pipeline.datasets.files import read_file
from pipeline.datasets.listing import is_reachable, names_of
from pipeline.datasets.reader import AbsentPartition, Reader, Traits, Typical
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.datasets.semantic_kitti.classes import (
    CLASS_OF_ID,
    CLASSES,
    SCANS_OF_SEQUENCE,
    SPLIT_OF_SEQUENCE,
)
from pipeline.datasets.semantic_kitti.sequence import CAMERA, LABEL_BYTES, POINT_BYTES, RUN, Sequence
from pipeline.geometry.calibration import MaskRule

if TYPE_CHECKING:
    import numpy as np

TRAITS = Traits(
    reader="semantic_kitti",
    reader_version=1,
    frame="lidar: x forward, y left, z up",
    cameras=(CAMERA,),
    classes=CLASSES,
    label_map_version=1,
    # ScaLR's released code, datasets/semantic_kitti_for_scalr.py, as is the mask: P2 · Tr in float64.
    intensity=(0.28613698, 0.14090556),
    intensity_range=(0.0, 1.0),
    reach=120.0,  # the Velodyne-64 is said to reach 120 m; of 4 real scans the farthest point is at 80 m
    published_mask=MaskRule(beyond=1.0, along="x", first=0, last=1, arithmetic="float64"),
    point_bytes=POINT_BYTES,
    typical=Typical(points=120_000, partition_scans=RUN, seen=0.163, kept=0.095, edge=0.02, whole=0.43),
)


UNKNOWN = "whose folder's name is none of 00 to 21 (a copy of one of them?)"


class SemanticKittiReader(Reader):
    """Reader of whole or partial trees, with calibration in the sequences' folders or beside them."""

    traits = TRAITS
    official_unit = "sequence"

    def check(self, root: Path, version: str) -> None:
        super().check(root, version)
        sequences = _sequences_folder(root)
        if sequences is None:
            raise BadInput(
                f"{root} does not hold SemanticKITTI: looked for the folders 00 to 21 in {root / 'dataset' / 'sequences'}, "
                f"{root / 'sequences'} and {root} itself; give the folder into which KITTI's archives were extracted."
            )
        unknown = sorted(
            path.name
            for path in sequences.iterdir()
            if path.name.isdigit() and path.is_dir() and path.name not in SPLIT_OF_SEQUENCE
        )
        if unknown:
            raise BadInput(
                f"{sequences} has {len(unknown)} sequence(s) that SemanticKITTI does not have: {', '.join(unknown[:3])}; "
                f"it has 00 to 21."
            )

    def cue(self, root: Path, version: str) -> list[Path]:
        sequences = _sequences_folder(root)
        assert sequences is not None  # `check` was passed
        watched = [sequences]
        for folder in _folders(sequences):
            watched += [folder, *(folder / kind for kind in ("velodyne", CAMERA, "labels"))]
            watched += _calibration_files(root, folder)
        return watched

    def partitions(self, root: Path, version: str) -> Iterator[PartitionRecord | AbsentPartition]:
        folder = _sequences_folder(root)
        assert folder is not None  # `check` was passed
        sequences = [
            Sequence(root, path, _calibration_files(root, path), SPLIT_OF_SEQUENCE[path.name])
            for path in _folders(folder)
        ]
        for sequence in sequences:
            yield from sequence.partitions(beside=sequences)
        for name in names_of(folder):
            if name not in SPLIT_OF_SEQUENCE and os.path.isdir(folder / name / "velodyne"):
                yield AbsentPartition(re.sub(r"[^A-Za-z0-9_-]", "_", name), "train", 0, why=UNKNOWN)

    def official_scans(self, version: str, split: str) -> Mapping[str, int]:
        return {name: SCANS_OF_SEQUENCE[name] for name, its in SPLIT_OF_SEQUENCE.items() if its == split}

    def recording_of(self, partition: str) -> str:
        return partition.partition("-")[0]

    def read_points(self, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        values = _read(root / scan.path, POINT_BYTES, np.dtype("<f4")).reshape(-1, 4)
        return np.ascontiguousarray(values[:, :3]), np.ascontiguousarray(values[:, 3])

    def read_labels(self, root: Path, scan: ScanRecord) -> np.ndarray:
        import numpy as np

        if scan.label_path is None:
            raise BadInput(f"scan {scan.name} has no labels")
        path = root / scan.label_path
        ids = _read(path, LABEL_BYTES, np.dtype("<u4")) & 0xFFFF  # above: which of the things of its class
        table = np.full(0x10000, -1, np.int16)
        table[list(CLASS_OF_ID)] = list(CLASS_OF_ID.values())
        classes = table[ids]
        unknown = ids[classes < 0]
        if len(unknown):
            raise BadInput(
                f"scan {scan.name}: {path} holds {len(unknown)} labels of ids that SemanticKITTI does not have, the first "
                f"{int(unknown[0])}; extract data_odometry_labels.zip again"
            )
        return classes.astype(np.uint8)

    def write_results(
        self, folder: Path, version: str, split: str, predictions: Iterable[tuple[str, np.ndarray]]
    ) -> int:
        from pipeline.datasets.semantic_kitti.results import write_results

        return write_results(folder, split, predictions)


READER = SemanticKittiReader()
READERS = (READER,)


def _sequences_folder(root: Path) -> Path | None:
    """Where the sequences are: the root may be what holds `dataset/`, what holds `sequences/`, or that itself."""
    for folder in (root / "dataset" / "sequences", root / "sequences", root):
        if is_reachable(folder) and folder.is_dir() and _folders(folder):
            return folder
    return None


def _folders(sequences: Path) -> list[Path]:
    """Those of sequences that are there, links that lead nowhere included: they are no absence."""
    with os.scandir(sequences) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name in SPLIT_OF_SEQUENCE
            and (entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path)))
        )
    return [sequences / name for name in names]


def _calibration_files(root: Path, sequence: Path) -> tuple[Path, Path]:
    """The two places, the one that wins first: the calibration archive on its own, and the sequence's folder."""
    return root / "calib" / "dataset" / "sequences" / sequence.name / "calib.txt", sequence / "calib.txt"


def _read(path: Path, item: int, dtype: np.dtype) -> np.ndarray:
    """A file of whole items.

    Raises:
        BadInput: if it is missing, empty, or cut within an item.
    """
    import numpy as np

    content = read_file(path)
    if not content or len(content) % item:
        raise BadInput(
            f"{path} has {len(content)} bytes, which is no positive multiple of {item}; it was cut or replaced"
        )
    return np.frombuffer(content, dtype)

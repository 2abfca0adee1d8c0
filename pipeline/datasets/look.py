"""Looking at a few scans of each partition before anything is computed: points, labels, images and cameras.

The checks are those of the stages. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.common.parallel import for_each
from pipeline.config.model import Dataset
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.camera_checks import Sight, cameras_of, check_cameras
from pipeline.datasets.data_warnings import Warnings, shown, summed
from pipeline.datasets.fence import ReaderMistake
from pipeline.datasets.files import check_size
from pipeline.datasets.image_checks import Pictures, thumbnail
from pipeline.datasets.index import Index
from pipeline.datasets.label_checks import check_labels
from pipeline.datasets.point_checks import Expected, check_lengths, check_points
from pipeline.datasets.reader import Reader
from pipeline.datasets.readers import reader_named
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.datasets.time_checks import check_times
from pipeline.geometry.projection import see


@dataclass
class Looked:
    """What was looked at, and what was seen.

    Attributes:
        warnings: a line for each kind, with counts.
        problems: what cannot be read or cannot be right, in words.
        unusable: how many of `scans`, `images` and `cameras` these are about.
        mistaken: whether the reader is wrong, and no file is at fault.
        scan_seconds, image_seconds: of one thread, for one scan and for one image.
        seconds: in all.
    """

    scans: int = 0
    images: int = 0
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unusable: dict[str, int] = field(default_factory=dict)
    mistaken: bool = False
    scan_seconds: float = 0.0
    image_seconds: float = 0.0
    seconds: float = 0.0

    def cost(self) -> str:
        """In words: how much was looked at, and what it cost."""
        images = f" and {self.images:,} images ({self.image_seconds:.4f} s each)" if self.images else ""
        return (
            f"looked at {self.scans:,} scans ({self.scan_seconds:.4f} s each){images} in {self.seconds:.1f} s"
        )

    def cannot_be_used(self) -> str:
        """How much, in words: `2 scans and 1 image cannot be used`."""
        counts = [f"{count:,} {what if count > 1 else what[:-1]}" for what, count in self.unusable.items()]
        return f"{' and '.join(counts)} cannot be used"

    def note(self, what: str, error: BadInput) -> None:
        """Keep what is wrong with one of `scans`, `images` or `cameras`."""
        self.problems.append(str(error))
        self.unusable[what] = self.unusable.get(what, 0) + 1
        self.mistaken |= isinstance(error, ReaderMistake)


@dataclass(frozen=True)
class _Kinds:
    """The warnings of one partition, by what they are about."""

    points: Warnings
    times: Warnings
    labels: Warnings
    images: Warnings
    cameras: Warnings


def look(name: str, dataset: Dataset, index: Index, count: int, threads: int | None = None) -> Looked:
    """Look at some scans of each partition that the config selects and that can be used.

    Args:
        name: of the dataset in the config.
        count: scans of each partition, spread over it; of those their images and labels.
        threads: partitions at a time. Default: one for each core.
    """
    started = time.monotonic()
    reader, root = reader_named(dataset.reader), Path(dataset.root)
    usable = [entry for entry in index.partitions if entry.problem is None and dataset.uses(entry.name)]
    parts = for_each(
        lambda entry: _look_at(reader, root, dataset, index.load_partition(entry), count), usable, threads
    )
    looked = Looked()
    noted = []
    for entry, (part, partition_entries) in zip(usable, parts, strict=True):
        looked.scans += part.scans
        looked.images += part.images
        looked.scan_seconds += part.scan_seconds
        looked.image_seconds += part.image_seconds
        looked.problems += [f"{entry.name}: {problem}" for problem in part.problems]
        looked.mistaken |= part.mistaken
        for what, number in part.unusable.items():
            looked.unusable[what] = looked.unusable.get(what, 0) + number
        if partition_entries:
            noted.append((entry.name, partition_entries))
    looked.warnings = summed(name, noted)
    looked.scan_seconds /= max(1, looked.scans)
    looked.image_seconds /= max(1, looked.images)
    looked.seconds = time.monotonic() - started
    return looked


def _look_at(
    reader: Reader, root: Path, dataset: Dataset, partition: PartitionRecord, count: int
) -> tuple[Looked, list[Mapping[str, Any]]]:
    """One partition: what was seen, and its warnings as a manifest would have them."""
    looked, pictures = Looked(), Pictures()
    kinds = _Kinds(*(Warnings(dataset.allow) for _ in range(5)))
    every, rule = len(partition.scans), reader.traits.mask(dataset.mask)
    numbers = np.unique(np.linspace(0, every - 1, min(count, every)).round().astype(int)).tolist()
    lengths: dict[int, int] = {}
    sights: list[Sight] = []
    for number in numbers:
        scan = partition.scans[number]
        begun = time.monotonic()
        looked.scans += 1
        try:
            xyz = _points_and_labels(reader, root, dataset, scan, number, kinds)
        except BadInput as error:
            looked.note("scans", error)
            continue
        finally:
            looked.scan_seconds += time.monotonic() - begun
        lengths[number] = len(xyz)
        begun = time.monotonic()
        for image in scan.images:
            looked.images += 1
            sights.append(Sight(number, image, len(xyz), len(see(xyz, image, rule).point)))
            try:
                pictures.note(looked.images, image.path, thumbnail(root, image))
            except BadInput as error:
                looked.note("images", error)
        looked.image_seconds += time.monotonic() - begun
    pictures.warn(kinds.images)
    check_times(partition.scans, kinds.times)
    paths = [partition.scans[number].path for number in numbers]
    check_lengths([lengths.get(number, 0) for number in numbers], paths, kinds.points)
    try:
        check_cameras(
            sights,
            lambda number: read_points(reader, root, partition.scans[number])[0],
            kinds.cameras,
            f"partition {partition.name}",
        )
    except BadInput as error:
        looked.note("cameras", error)
    entries = [
        *kinds.points.entries(len(numbers), "lidar files looked at"),
        *kinds.times.entries(every, "scans"),
        *kinds.labels.entries(len(numbers), "label files looked at"),
        *kinds.images.entries(looked.images, "images looked at"),
        *kinds.cameras.entries(cameras_of(sights), "cameras"),
    ]
    return looked, shown(entries, dataset.allow)


def _points_and_labels(
    reader: Reader, root: Path, dataset: Dataset, scan: ScanRecord, number: int, kinds: _Kinds
) -> np.ndarray:
    """xyz (N, 3) float32 of a scan, whose points and labels are looked at.

    Raises:
        BadInput: if they cannot be read, or cannot be right.
    """
    check_size(root / scan.path, scan.bytes)
    xyz, intensity = read_points(reader, root, scan)
    findings = check_points(xyz, intensity, Expected.of(reader.traits, dataset))
    kinds.points.note(number, scan.path, findings, f"scan {scan.name}: {root / scan.path}")
    if scan.label_path is not None and scan.label_bytes is not None:
        path = root / scan.label_path
        check_size(path, scan.label_bytes)
        labels = read_labels(reader, root, scan, len(xyz))
        kinds.labels.note(number, scan.label_path, check_labels(labels), f"scan {scan.name}: {path}")
    return xyz

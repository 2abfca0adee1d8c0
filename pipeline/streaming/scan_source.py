"""Reading whole labelled scans for probes. Opens stores lazily, in the process that reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_schemas.belonging import check_same_scans
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import LABELS, SCANS
from pipeline.geometry.full_scan import FullScan
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.left_out import left_out_of, lost_scans
from pipeline.streaming.open_partitions import PartitionSource, open_store
from pipeline.streaming.scan_places import Places


@dataclass(frozen=True)
class LabelledPlace:
    """A labelled scan that can be drawn.

    Attributes:
        reading: which of the probe's readings (partitions) holds it.
        row: its place in the partition.
        name: its name in its dataset. All random draws for the scan depend on the name, not on its position.
    """

    reading: int
    row: int
    dataset: str
    name: str


def scan_name(place: LabelledPlace) -> str:
    """For people."""
    return f"{place.dataset} {place.name}"


def labelled_place(reading: int, dataset: str, name: str, numbers: tuple[int, ...]) -> LabelledPlace:
    """The place of a labelled scan, as `Places` keep it: its only number is its row."""
    return LabelledPlace(reading, numbers[0], dataset, name)


@dataclass(frozen=True)
class ScanPoints:
    """One scan as stored.

    Attributes:
        xyz: (N, 3) float32, metres, in the dataset's frame.
        intensity: (N,) float32, as recorded.
        label: (N,) uint8, 255 is ignored. Without a label store all are 255.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    label: np.ndarray


class _Opened:
    """The scan and the label store of one partition, and its full scans where it is scored."""

    def __init__(self, cache: Path, reading: LabelledReading) -> None:
        self.scans = open_store(cache, reading, reading.scans, SCANS)
        self.bounds = self.scans.read("scan_offsets").astype(np.int64)
        self.names: list[str] = self.scans.attributes["scans"]
        self.labels: PartitionReader | None = None
        if reading.labels is not None:
            self.labels = open_store(cache, reading, reading.labels, LABELS)
            check_same_scans(self.labels, self.scans)
        if reading.full is not None:
            self.full = open_store(cache, reading, reading.full, FULL_SCANS)
            self.kept_bounds = self.full.read("kept_offsets").astype(np.int64)
            check_same_scans(self.full, self.scans)
        stores = [self.scans, *([self.labels] if self.labels else [])]
        self.left_out = left_out_of(stores)
        self.lost = {name for store in stores for name in lost_scans(store)}


class ScanSource(PartitionSource[LabelledReading, _Opened]):
    """Random access to the labelled scans of a probe.

    Attributes:
        labels: how many points have a class, and how many have a label at all, as the manifests say. Known after `scans`.
    """

    def __init__(self, cache: Path, readings: Sequence[LabelledReading]) -> None:
        super().__init__(cache, readings)
        self.labels = (0, 0)

    def scans(self) -> Places[LabelledPlace]:
        """All scans in the order of the plan, without those whose points or labels could not be read."""
        self.labels = (0, 0)
        return self._places(labelled_place)

    def _drawable(self, reading: LabelledReading, opened: _Opened) -> Iterator[tuple[str, tuple[int]]]:
        counts = opened.labels.manifest.counts if opened.labels else {}
        classed, points = self.labels
        self.labels = classed + counts.get("labelled_points", 0), points + counts.get("points", 0)
        for row, name in enumerate(opened.names):
            if name not in opened.lost:
                yield name, (row,)

    def size(self, place: LabelledPlace) -> int:
        """How many points a scan has."""
        begin, end = self._opened[place.reading].bounds[place.row : place.row + 2]
        return int(end - begin)

    def read(self, place: LabelledPlace) -> ScanPoints:
        """What is stored of one scan.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        opened = self._opened[place.reading]
        begin, end = (int(bound) for bound in opened.bounds[place.row : place.row + 2])
        return ScanPoints(
            xyz=opened.scans.read("xyz", begin, end),
            intensity=opened.scans.read("intensity", begin, end),
            label=opened.labels.read("label", begin, end)
            if opened.labels
            else np.full(end - begin, 255, np.uint8),
        )

    def full(self, place: LabelledPlace) -> FullScan:
        """What is stored of one scored scan, in the stored types.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        opened = self._opened[place.reading]
        begin, end = (int(bound) for bound in opened.bounds[place.row : place.row + 2])
        first, last = (int(bound) for bound in opened.kept_bounds[place.row : place.row + 2])
        return FullScan(
            kept=opened.full.read("kept", first, last),
            neighbours=opened.full.read("neighbours", first, last),
            nearest=opened.full.read("nearest", begin, end),
        )

    def _open(self, number: int) -> _Opened:
        return _Opened(self._cache, self._readings[number])

"""Reading the data of a sample from the three stores. Stores are opened on first use, in the process that reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_schemas.belonging import check_same_images, check_same_scans
from cache_schemas.errors import BadInput
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.views import VIEWS
from pipeline.config.model import Teacher
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.left_out import left_out_of
from pipeline.plan.parts import Reading
from pipeline.streaming.grids import GridMemory, GridStores, PatchGrid
from pipeline.streaming.open_partitions import PartitionSource, open_store
from pipeline.streaming.order import ScanPlace
from pipeline.streaming.scan_places import Places


@dataclass(frozen=True)
class ViewPoints:
    """One view in one variant, as stored.

    Attributes:
        xyz: (n, 3) float32, metres, in the dataset's frame.
        intensity: (n,) float32, as recorded.
        pixel: (n, 2) float32, continuous (u, v) in the original image.
        neighbours: (n, K) uint16 or uint32, rows of these n, nearest first.
        spare_of: (s,) integers, ascending: those of the n some of whose neighbours a crop can remove.
        spares: (s, S) integers: the next nearest of these.
        original: (W0, H0) of the original image.
        grids: each teacher's patch grid as stored; none where only the points are asked for.
        point: (n,) rows of the scan.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    pixel: np.ndarray
    neighbours: np.ndarray
    spare_of: np.ndarray
    spares: np.ndarray
    original: tuple[int, int]
    grids: tuple[PatchGrid, ...]
    point: np.ndarray


class OpenedViews:
    """The view store of one partition, its teachers' patch grids, and the small arrays that every read needs.

    Attributes:
        names: of the scans.
        unusable: views of which no sample is made.
    """

    def __init__(
        self,
        cache: Path,
        reading: Reading | LabelledReading,
        teachers: Sequence[Teacher],
        reader: type[PartitionReader] = PartitionReader,
    ) -> None:
        if reading.views is None:
            raise ValueError(f"{reading.dataset} {reading.partition} was planned without views")
        self.views = open_store(cache, reading, reading.views, VIEWS, reader)
        self.grids = GridStores(cache, reading, teachers, reader)
        for grids in self.grids.readers:
            check_same_images(self.views, grids)
        self.names: list[str] = self.views.attributes["scans"]
        self.seen_bounds = self.views.read("seen_offsets").astype(np.int64)
        self.view_scan = self.views.read("view_scan").astype(np.int64)
        self.image_size = self.views.read("image_size")
        self.unusable: frozenset[int] = self.grids.unreadable

    def usable(self, scan: int) -> list[int]:
        """The views of a scan that can be drawn."""
        views = np.flatnonzero(self.view_scan == scan).tolist()
        return [view for view in views if view not in self.unusable]

    def seen(self, view: int) -> tuple[int, int]:
        """The rows of the points that a view sees, of all that the partition's views see."""
        first, last = self.seen_bounds[view : view + 2]
        return int(first), int(last)

    def original(self, view: int) -> tuple[int, int]:
        """(W0, H0) of the view's original image."""
        height, width = self.image_size[view]
        return int(width), int(height)


class _Opened(OpenedViews):
    """The three stores of one partition."""

    def __init__(
        self, cache: Path, reading: Reading, teachers: Sequence[Teacher], reader: type[PartitionReader]
    ) -> None:
        super().__init__(cache, reading, teachers, reader)
        self.scans = open_store(cache, reading, reading.scans, SCANS, reader)
        check_same_scans(self.views, self.scans)
        self.scan_bounds = self.scans.read("scan_offsets").astype(np.int64)
        self.kept_bounds = self.views.read("kept_offsets").astype(np.int64)
        attributes = self.views.attributes
        self.spare_rows = max(1, attributes["spares"] // self.views.shape("neighbours")[1])
        """Rows of more neighbours that each representative with spares has."""
        self.unusable |= set(attributes["unusable"])
        self.left_out = left_out_of((self.scans, *self.grids.readers))


class ViewSource(PartitionSource[Reading, _Opened]):
    """Random access to the views of a run. Without teachers no patch grid is read."""

    def __init__(
        self,
        cache: Path,
        readings: Sequence[Reading],
        teachers: Sequence[Teacher],
        reader: type[PartitionReader] = PartitionReader,
    ) -> None:
        super().__init__(cache, readings)
        self._teachers, self._reader = tuple(teachers), reader
        self._unusable: list[str] = []

    def scans(self) -> tuple[Places[ScanPlace], list[str]]:
        """All scans that can be drawn, in the order of the plan, and those of which no view sees enough or can be read.

        Raises:
            BadInput: if no scan can be drawn.
        """
        self._unusable = []
        places = self._places(ScanPlace)
        if not len(places):
            raise BadInput(
                f"none of {len(self._unusable)} scan(s) has a camera that sees enough points to learn from"
            )
        return places, self._unusable

    def _drawable(self, reading: Reading, opened: _Opened) -> Iterator[tuple[str, list[int]]]:
        for scan, name in enumerate(opened.names):
            if views := opened.usable(scan):
                yield name, views
            else:
                self._unusable.append(f"{reading.dataset} {reading.partition} {name}")

    def grid_memory(self, reading: int, views: int) -> GridMemory:
        """Memory for the patch grids of so many views; grids have the same size in every partition."""
        return self._opened[reading].grids.memory(views)

    def read(self, reading: int, view: int, variant: int, into: Sequence[PatchGrid]) -> ViewPoints:
        """What is stored of one view. Its patch grids are read directly `into` this memory.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        first, last = opened.seen(view)
        bound = 2 * (variant * len(opened.view_scan) + view)
        kept_first, kept_last, more_last = opened.kept_bounds[bound : bound + 3]
        count = kept_last - kept_first
        seen_rows = opened.views.read("kept", kept_first, more_last)
        near = opened.views.read("neighbours", kept_first, more_last)
        kept, spare_of = seen_rows[:count], seen_rows[count :: opened.spare_rows]
        rows = opened.views.read("point", first, last).take(kept)
        begin, end = opened.scan_bounds[scan : scan + 2]
        return ViewPoints(
            xyz=opened.scans.read_rows("xyz", begin, end, rows),
            intensity=opened.scans.read_rows("intensity", begin, end, rows),
            pixel=opened.views.read("pixel", first, last).take(kept, axis=0),
            neighbours=near[:count],
            spare_of=spare_of,
            spares=near[count:].reshape(len(spare_of), opened.spare_rows * near.shape[1]),
            original=opened.original(view),
            grids=opened.grids.read(view, into),
            point=rows,
        )

    def channels(self) -> int:
        """Of all teachers together."""
        return sum(self._opened[0].grids.channels())

    def advise(self, reading: int, view: int, variant: int) -> None:
        """Tell the system that a view will be read soon, so that it reads from the disk what is not in memory yet."""
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        # The whole scan: which of its rows are needed is not known before the view is read.
        for name in ("xyz", "intensity"):
            opened.scans.advise(name, *map(int, opened.scan_bounds[scan : scan + 2]))
        for name in ("point", "pixel"):
            opened.views.advise(name, *opened.seen(view))
        bound = 2 * (variant * len(opened.view_scan) + view)
        for name in ("kept", "neighbours"):
            opened.views.advise(name, *map(int, opened.kept_bounds[bound : bound + 3 : 2]))
        opened.grids.advise(view)

    def _open(self, number: int) -> _Opened:
        return _Opened(self._cache, self._readings[number], self._teachers, self._reader)

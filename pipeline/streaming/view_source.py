"""Reading what a sample is made of from the three stores. Opens stores lazily, in the process that reads."""

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
from pipeline.plan.left_out import left_out_of
from pipeline.plan.parts import Reading
from pipeline.streaming.grids import GridMemory, GridStores, PatchGrid
from pipeline.streaming.open_partitions import OpenPartitions, open_store
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


class _Opened:
    """The three stores of one partition and the small arrays that every read needs."""

    def __init__(
        self, cache: Path, reading: Reading, teachers: Sequence[Teacher], by: type[PartitionReader]
    ) -> None:
        self.scans = open_store(cache, reading, reading.scans, SCANS, by)
        self.views = open_store(cache, reading, reading.views, VIEWS, by)
        self.grids = GridStores(cache, reading, teachers, by)
        self.scan_bounds = self.scans.read("scan_offsets").astype(np.int64)
        self.seen_bounds = self.views.read("seen_offsets").astype(np.int64)
        self.kept_bounds = self.views.read("kept_offsets").astype(np.int64)
        self.view_scan = self.views.read("view_scan").astype(np.int64)
        self.image_size = self.views.read("image_size")
        check_same_scans(self.views, self.scans)
        for reader in self.grids.readers:
            check_same_images(self.views, reader)
        views = self.views.attributes
        self.scan_names: list[str] = views["scans"]
        self.spare_rows = max(1, views["spares"] // self.views.shape("neighbours")[1])
        """Rows of more neighbours that each representative with spares has."""
        self.unusable: set[int] = {*views["unusable"], *self.grids.unreadable}
        self.left_out = left_out_of((self.scans, *self.grids.readers))


class ViewSource:
    """Random access to the views of a run. Without teachers no patch grid is read.

    Attributes:
        left_out: by dataset the files that could not be read when the stores were written, in words; known after
            `scans`.
    """

    def __init__(
        self,
        cache: Path,
        readings: Sequence[Reading],
        teachers: Sequence[Teacher],
        reader: type[PartitionReader] = PartitionReader,
    ) -> None:
        self._cache = cache
        self._readings = readings
        self._teachers = tuple(teachers)
        self._reader = reader
        self._opened = OpenPartitions(self._open)
        self.left_out: dict[str, list[str]] = {}

    def scans(self) -> tuple[Places[ScanPlace], list[str]]:
        """All scans that can be drawn, in the order of the plan, and those of which no view sees enough or can be read.

        Raises:
            BadInput: if no scan can be drawn.
        """
        unusable: list[str] = []
        left_out: dict[str, list[str]] = {}

        def drawable() -> Iterator[tuple[int, str, list[int]]]:
            for number, reading in enumerate(self._readings):
                opened = self._opened[number]
                left_out.setdefault(reading.dataset, []).extend(opened.left_out)
                for scan, name in enumerate(opened.scan_names):
                    views = np.flatnonzero(opened.view_scan == scan).tolist()
                    usable = [view for view in views if view not in opened.unusable]
                    if usable:
                        yield number, name, usable
                    else:
                        unusable.append(f"{reading.dataset} {reading.partition} {name}")

        places = Places(ScanPlace, [reading.dataset for reading in self._readings], drawable())
        self.left_out = left_out
        if not len(places):
            raise BadInput(
                f"none of {len(unusable)} scan(s) has a camera that sees enough points to learn from"
            )
        return places, unusable

    def grid_memory(self, reading: int, views: int) -> tuple[GridMemory, ...]:
        """Memory for the patch grids of so many views, for each teacher; grids are as large in every partition."""
        return self._opened[reading].grids.memory(views)

    def read(
        self, reading: int, view: int, variant: int, into: Sequence[PatchGrid] | None = None
    ) -> ViewPoints:
        """What is stored of one view; its patch grids are read straight `into` these, where they are given.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        first, last = opened.seen_bounds[view : view + 2]
        bound = 2 * (variant * len(opened.view_scan) + view)
        kept_first, kept_last, more_last = opened.kept_bounds[bound : bound + 3]
        count = kept_last - kept_first
        of = opened.views.read("kept", kept_first, more_last)
        near = opened.views.read("neighbours", kept_first, more_last)
        kept, spare_of = of[:count], of[count :: opened.spare_rows]
        rows = opened.views.read("point", first, last).take(kept)
        height, width = (int(side) for side in opened.image_size[view])
        begin, end = opened.scan_bounds[scan : scan + 2]
        return ViewPoints(
            xyz=opened.scans.read_rows("xyz", begin, end, rows),
            intensity=opened.scans.read_rows("intensity", begin, end, rows),
            pixel=opened.views.read("pixel", first, last).take(kept, axis=0),
            neighbours=near[:count],
            spare_of=spare_of,
            spares=near[count:].reshape(len(spare_of), opened.spare_rows * near.shape[1]),
            original=(width, height),
            grids=opened.grids.read(view, into),
            point=rows,
        )

    def channels(self) -> int:
        """Of all teachers together."""
        return sum(self._opened[0].grids.channels())

    def advise(self, reading: int, view: int, variant: int) -> None:
        """Say that a view will be read soon: the system reads ahead what of it is not in memory yet."""
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        # Of the whole scan: which rows is not known before the view is read.
        for name in ("xyz", "intensity"):
            opened.scans.advise(name, *map(int, opened.scan_bounds[scan : scan + 2]))
        for name in ("point", "pixel"):
            opened.views.advise(name, *map(int, opened.seen_bounds[view : view + 2]))
        bound = 2 * (variant * len(opened.view_scan) + view)
        for name in ("kept", "neighbours"):
            opened.views.advise(name, *map(int, opened.kept_bounds[bound : bound + 3 : 2]))
        opened.grids.advise(view)

    def _open(self, number: int) -> _Opened:
        return _Opened(self._cache, self._readings[number], self._teachers, self._reader)

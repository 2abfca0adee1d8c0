"""Reading what a sample is made of from the three stores. Opens stores lazily, in the process that reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.manifest import mending
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from cache_schemas.views import VIEWS
from pipeline.plan import Reading
from pipeline.streaming.opened import OpenPartitions
from pipeline.streaming.order import ScanPlace
from pipeline.streaming.places import Places

NO_GRID = np.empty((1, 1, 0), np.float32)
"""Stands for a patch grid where only the points are asked for."""


@dataclass(frozen=True)
class ViewPoints:
    """One view in one variant, as stored.

    Attributes:
        xyz: (n, 3) float32, metres, in the dataset's frame.
        intensity: (n,) float32, as recorded.
        pixel: (n, 2) float32, continuous (u, v) in the original image.
        neighbours: (n, K + spares) uint16 or uint32, rows of these n.
        original: (W0, H0) of the original image.
        grid: (rows, cols, channels), the teacher's patch grid in its storage type.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    pixel: np.ndarray
    neighbours: np.ndarray
    original: tuple[int, int]
    grid: np.ndarray


class _Opened:
    """The three stores of one partition and the small arrays that every read needs."""

    def __init__(
        self, cache: Path, reading: Reading, storage: str | None, reader: type[PartitionReader]
    ) -> None:
        self.scans = reader(cache / reading.scans[0], SCANS, reading.partition, reading.scans[1])
        self.views = reader(cache / reading.views[0], VIEWS, reading.partition, reading.views[1])
        self.features: PartitionReader | None = None
        if storage is not None:
            self.features = reader(
                cache / reading.features[0], features_schema(storage), reading.partition, reading.features[1]
            )
        self.scan_bounds = self.scans.read("scan_offsets").astype(np.int64)
        self.seen_bounds = self.views.read("seen_offsets").astype(np.int64)
        self.kept_bounds = self.views.read("kept_offsets").astype(np.int64)
        self.view_scan = self.views.read("view_scan").astype(np.int64)
        self.image_size = self.views.read("image_size")
        views, scans = self.views.attributes, self.scans.attributes
        features = self.features.attributes if self.features else views
        if views["images"] != features["images"] or views["scans"] != scans["scans"]:
            where = self.features.manifest.path if self.features else self.scans.manifest.path
            raise DamagedCache(
                f"the stores of {reading.partition} do not belong together: {self.views.manifest.path} and "
                f"{where} list other images, or other scans than {self.scans.manifest.path}.\n"
                f"{mending(self.views.manifest.path)}"
            )
        self.scan_names: list[str] = views["scans"]
        self.unusable: set[int] = set(views["unusable"])


def _read_grid(opened: _Opened, view: int, out: np.ndarray | None) -> np.ndarray:
    """The patch grid of a view, in its storage type: the one place that knows how patch grids are stored."""
    if opened.features is None:
        return NO_GRID
    return opened.features.read("features", view, view + 1, None if out is None else out[np.newaxis])[0]


class ViewSource:
    """Random access to the views of a run; without `storage` no patch grid is read and `grid` is empty."""

    def __init__(
        self,
        cache: Path,
        readings: Sequence[Reading],
        storage: str | None,
        reader: type[PartitionReader] = PartitionReader,
    ) -> None:
        self._cache = cache
        self._readings = readings
        self._storage = storage
        self._reader = reader
        self._opened = OpenPartitions(self._open)

    def scans(self) -> tuple[Places[ScanPlace], list[str]]:
        """All scans that can be drawn, in the order of the plan, and those of which no view sees enough.

        Raises:
            BadInput: if no scan can be drawn.
        """
        unusable: list[str] = []

        def drawable() -> Iterator[tuple[int, str, list[int]]]:
            for number, reading in enumerate(self._readings):
                opened = self._opened[number]
                for scan, name in enumerate(opened.scan_names):
                    views = np.flatnonzero(opened.view_scan == scan).tolist()
                    usable = [view for view in views if view not in opened.unusable]
                    if usable:
                        yield number, name, usable
                    else:
                        unusable.append(f"{reading.dataset} {reading.partition} {name}")

        places = Places(ScanPlace, [reading.dataset for reading in self._readings], drawable())
        if not len(places):
            raise BadInput(
                f"none of {len(unusable)} scan(s) has a camera that sees enough points to learn from"
            )
        return places, unusable

    def grid_shape(self, reading: int) -> tuple[tuple[int, ...], np.dtype]:
        """(rows, cols, channels) and the type of the patch grids of a partition."""
        features = self._opened[reading].features
        if features is None:
            return NO_GRID.shape, NO_GRID.dtype
        return features.shape("features")[1:], features.dtype("features")

    def read(self, reading: int, view: int, variant: int, grid: np.ndarray | None = None) -> ViewPoints:
        """What is stored of one view; its patch grid is read straight into `grid`, where that is given.

        Raises:
            DamagedCache: naming the file, if a checksum does not fit.
        """
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        first, last = opened.seen_bounds[view : view + 2]
        kept_view = variant * len(opened.view_scan) + view
        kept_first, kept_last = opened.kept_bounds[kept_view : kept_view + 2]
        kept = opened.views.read("kept", kept_first, kept_last)
        rows = opened.views.read("point", first, last).take(kept)
        height, width = (int(side) for side in opened.image_size[view])
        begin, end = opened.scan_bounds[scan : scan + 2]
        return ViewPoints(
            xyz=opened.scans.read_rows("xyz", begin, end, rows),
            intensity=opened.scans.read_rows("intensity", begin, end, rows),
            pixel=opened.views.read("pixel", first, last).take(kept, axis=0),
            neighbours=opened.views.read("neighbours", kept_first, kept_last),
            original=(width, height),
            grid=_read_grid(opened, view, grid),
        )

    def advise(self, reading: int, view: int, variant: int) -> None:
        """Say that a view will be read soon: the system reads ahead what of it is not in memory yet."""
        opened = self._opened[reading]
        scan = opened.view_scan[view]
        for name in (
            "xyz",
            "intensity",
        ):  # of the whole scan: which rows is not known before the view is read
            opened.scans.advise(name, *map(int, opened.scan_bounds[scan : scan + 2]))
        for name in ("point", "pixel"):
            opened.views.advise(name, *map(int, opened.seen_bounds[view : view + 2]))
        kept_view = variant * len(opened.view_scan) + view
        for name in ("kept", "neighbours"):
            opened.views.advise(name, *map(int, opened.kept_bounds[kept_view : kept_view + 2]))
        if opened.features is not None:
            opened.features.advise("features", view, view + 1)

    def _open(self, number: int) -> _Opened:
        return _Opened(self._cache, self._readings[number], self._storage, self._reader)

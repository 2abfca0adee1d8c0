"""Which share of a scan's points the stores of views and of full scans hold: it decides their size. Measured on a few scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cache_schemas.errors import GriddleError
from pipeline.config.model import Dataset, Points
from pipeline.datasets.index import Index, PartitionEntry
from pipeline.datasets.reader import Reader, Traits
from pipeline.datasets.readers import reader_named
from pipeline.datasets.records import ScanRecord
from pipeline.geometry.calibration import MaskRule

SCANS = 8
"""Scans that are measured, each of another partition where there are so many."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of a scan's points.

    Attributes:
        scans: how many scans were measured; 0 for what is typical of a dataset.
        TYPICAL_OF: the conditions of the typical share, in words.
    """

    TYPICAL_OF: ClassVar[str]

    scans: int = 0

    @property
    def source(self) -> str:
        if self.scans:
            return f"measured on {self.scans} scan(s), right to 15 %"
        return f"not measured; as {self.TYPICAL_OF} typically leave of such scans"


@dataclass(frozen=True, kw_only=True)
class ViewShares(Share):
    """Of the points of a scan, for each of its cameras.

    Attributes:
        seen: share that one camera sees, the mean over cameras.
        kept: share that is left of those when one point of each voxel is kept.
        edge: share, of what is kept, of points some of whose neighbours a crop can remove.
    """

    TYPICAL_OF = "cameras and voxels of 10 cm"

    seen: float
    kept: float
    edge: float


@dataclass(frozen=True, kw_only=True)
class FullScanShare(Share):
    """Of the points of a scan.

    Attributes:
        kept: share that is left when one point of each voxel is kept, in the field of view.
        most: points that the measured scan with most of them keeps: it decides the type of a partition's row numbers.
    """

    TYPICAL_OF = "voxels of 10 cm within 64 m"

    kept: float
    most: int = 0


def typical_view_shares(traits: Traits) -> ViewShares:
    """What cameras typically see of such scans; where nothing is known of them, of those of nuScenes."""
    known = traits.typical
    if known is None:
        return ViewShares(seen=0.108, kept=0.083, edge=0.06)
    return ViewShares(seen=known.seen, kept=known.kept, edge=known.edge)


def view_shares(
    dataset: Dataset, points: Points, index: Index, entries: Sequence[PartitionEntry]
) -> ViewShares:
    """Measured on scans from all along `entries`; the typical shares where none of them can be read.

    Reads lidar files and computes what the views stage does for one variant: some 70 ms a scan.
    """
    reader, root = reader_named(dataset.reader), Path(dataset.root)
    rule = reader.traits.mask(dataset.mask)
    sums, count = np.zeros(4, np.int64), 0
    for scan, xyz in _measured_scans(reader, root, index, [entry for entry in entries if entry.images]):
        if scan.images:
            sums += _count_seen(xyz, scan, rule, points)
            count += 1
    total, seen, kept, edge = (int(value) for value in sums)
    if not total:
        return typical_view_shares(reader.traits)
    return ViewShares(seen=seen / total, kept=kept / total, edge=edge / max(1, kept), scans=count)


def full_scan_share(
    dataset: Dataset, points: Points, index: Index, entries: Sequence[PartitionEntry]
) -> FullScanShare:
    """Measured on scans from all along `entries`; the typical share where none of them can be read, and where nothing is known
    of such scans that of nuScenes.

    Reads lidar files and sorts their voxels: some 10 ms a scan.
    """
    from pipeline.geometry.grid import Grid
    from pipeline.geometry.voxels import representatives

    reader = reader_named(dataset.reader)
    low, high = zip(*points.field_of_view, strict=True)
    grid = Grid(low, high)
    total, kept = 0, []
    for _, xyz in _measured_scans(reader, Path(dataset.root), index, entries):
        kept.append(int(grid.inside(xyz[representatives(xyz, points.voxel, None)]).sum()))
        total += len(xyz)
    if not total:
        return FullScanShare(kept=reader.traits.typical.whole if reader.traits.typical else 0.5)
    return FullScanShare(kept=sum(kept) / total, most=max(kept), scans=len(kept))


def _measured_scans(
    reader: Reader, root: Path, index: Index, entries: Sequence[PartitionEntry]
) -> Iterator[tuple[ScanRecord, np.ndarray]]:
    """Scans from all along the entries, each with its points (N, 3) in metres; those that cannot be read are left out."""
    from pipeline.datasets.array_checks import read_points

    for entry, place in evenly(entries):
        try:
            scan = index.load_partition(entry).scans[place]
            xyz, _ = read_points(reader, root, scan)
        except (GriddleError, OSError):  # the stage itself will say so
            continue
        yield scan, xyz


def evenly(entries: Sequence[PartitionEntry]) -> list[tuple[PartitionEntry, int]]:
    """(partition, place of a scan in it), from all along the entries."""
    scans = sum(entry.scans for entry in entries)
    wanted = [number * scans // SCANS for number in range(SCANS)] if scans > SCANS else list(range(scans))
    places: list[tuple[PartitionEntry, int]] = []
    first = 0
    for entry in entries:
        places += [(entry, place - first) for place in wanted if first <= place < first + entry.scans]
        first += entry.scans
    return places


def _count_seen(
    xyz: np.ndarray, scan: ScanRecord, rule: MaskRule, points: Points
) -> tuple[int, int, int, int]:
    """Points × cameras, and over all cameras seen points, kept points, and those of these that have spares."""
    from pipeline.geometry.neighbours import with_spares
    from pipeline.geometry.projection import see
    from pipeline.geometry.voxels import representatives

    chosen = np.zeros(len(xyz), bool)
    chosen[representatives(xyz, points.voxel, None)] = True
    views = [see(xyz, image, rule).point for image in scan.images]
    kept = [view[chosen[view]] for view in views]
    edge = 0
    if points.spares:
        spares = [with_spares(xyz[rows], points.neighbours, 1, points.field_of_view)[1] for rows in kept]
        edge = sum(map(len, spares))
    return len(xyz) * len(views), sum(map(len, views)), sum(map(len, kept)), edge

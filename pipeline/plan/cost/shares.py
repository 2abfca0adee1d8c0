"""What cameras see of a dataset's points, and what full scans keep of them: what the sizes of their stores hang on. Measured
on a few scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.config.model import Points
from pipeline.datasets.index import Index, PartitionEntry
from pipeline.datasets.reader import Reader, Traits
from pipeline.datasets.records import ScanRecord
from pipeline.geometry.calibration import MaskRule

SCANS = 8
"""Scans that are looked at, each of another partition where there are so many."""


@dataclass(frozen=True)
class Shares:
    """Of the points of a scan, for each of its cameras.

    Attributes:
        seen: share that one camera sees, the mean over cameras.
        kept: share that is left of those when one point of each voxel is kept.
        edge: share, of what is kept, of points some of whose neighbours a crop can remove.
        scans: how many scans were measured; 0 for the typical ones of a dataset.
    """

    seen: float
    kept: float
    edge: float
    scans: int = 0

    @property
    def source(self) -> str:
        if self.scans:
            return f"measured on {self.scans} scan(s), right to 15 %"
        return "not measured; as cameras and voxels of 10 cm typically leave of such scans"


TYPICAL = Shares(0.108, 0.083, 0.06)
"""Of scans of which nothing is known: those of nuScenes, as its reader's traits have them."""


def typical_shares(traits: Traits) -> Shares:
    """What cameras typically see of such scans."""
    known = traits.typical
    return Shares(known.seen, known.kept, known.edge) if known else TYPICAL


def measure_shares(
    reader: Reader, root: Path, rule: MaskRule, points: Points, index: Index, entries: list[PartitionEntry]
) -> Shares | None:
    """Shares over scans from all along `entries`; None where none of them can be read.

    Reads lidar files and computes what the views stage does for one variant: some 70 ms a scan.
    """
    sums, count = np.zeros(4, np.int64), 0
    for entry, place in evenly([entry for entry in entries if entry.images]):
        try:
            scan = index.load_partition(entry).scans[place]
            if not scan.images:
                continue
            found = _count(reader, root, rule, points, scan)
        except (BadInput, OSError):  # the stage itself will say so
            continue
        sums += found
        count += 1
    total, seen, kept, edge = (int(value) for value in sums)
    return Shares(seen / total, kept / total, edge / max(1, kept), count) if total else None


def evenly(entries: list[PartitionEntry]) -> list[tuple[PartitionEntry, int]]:
    """(partition, place of a scan in it), from all along the entries."""
    scans = sum(entry.scans for entry in entries)
    wanted = [number * scans // SCANS for number in range(SCANS)] if scans > SCANS else list(range(scans))
    found: list[tuple[PartitionEntry, int]] = []
    first = 0
    for entry in entries:
        found += [(entry, place - first) for place in wanted if first <= place < first + entry.scans]
        first += entry.scans
    return found


def _count(
    reader: Reader, root: Path, rule: MaskRule, points: Points, scan: ScanRecord
) -> tuple[int, int, int, int]:
    """Points × cameras, and over all cameras seen points, kept points, and those of these that have spares."""
    from pipeline.geometry.neighbours import with_spares
    from pipeline.geometry.projection import see
    from pipeline.geometry.voxels import representatives

    xyz, _ = reader.read_points(root, scan)
    chosen = np.zeros(len(xyz), bool)
    chosen[representatives(xyz, points.voxel, None)] = True
    views = [see(xyz, image, rule).point for image in scan.images]
    kept = [view[chosen[view]] for view in views]
    edge = 0
    if points.spares:
        spares = [with_spares(xyz[rows], points.neighbours, 1, points.field_of_view)[1] for rows in kept]
        edge = sum(map(len, spares))
    return len(xyz) * len(views), sum(map(len, views)), sum(map(len, kept)), edge


@dataclass(frozen=True)
class KeptShare:
    """Of the points of a scan.

    Attributes:
        share: that is left when one point of each voxel is kept, in the field of view.
        scans: how many scans were measured; 0 for the typical share of a dataset.
        most: points that the measured scan with most of them keeps: one scan decides how wide a partition's row numbers
            are.
    """

    share: float
    scans: int = 0
    most: int = 0

    @property
    def source(self) -> str:
        if self.scans:
            return f"measured on {self.scans} scan(s), right to 15 %"
        return "not measured; as voxels of 10 cm within 64 m typically leave of such scans"


def typical_kept(traits: Traits) -> KeptShare:
    """What is typically kept of such scans; of those of which nothing is known, as of nuScenes."""
    return KeptShare(traits.typical.whole if traits.typical else 0.5)


def measure_kept(
    reader: Reader, root: Path, points: Points, index: Index, entries: list[PartitionEntry]
) -> KeptShare | None:
    """The share over scans from all along `entries`; None where none of them can be read.

    Reads lidar files and sorts their voxels: some 10 ms a scan.
    """
    from pipeline.geometry.grid import Grid
    from pipeline.geometry.voxels import representatives

    low, high = zip(*points.field_of_view, strict=True)
    total, kept = 0, []
    for entry, place in evenly(entries):
        try:
            xyz, _ = reader.read_points(root, index.load_partition(entry).scans[place])
        except (BadInput, OSError):  # the stage itself will say so
            continue
        rows = representatives(xyz, points.voxel, None)
        kept.append(int(Grid(low, high).inside(xyz[rows]).sum()))
        total += len(xyz)
    return KeptShare(sum(kept) / total, len(kept), max(kept)) if total else None

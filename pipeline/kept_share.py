"""What full scans keep of a dataset's points: what the size of their store hangs on. Measured on a few scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.config.model import Points
from pipeline.datasets.reader import Reader, Traits
from pipeline.index import Index, PartitionEntry
from pipeline.shares import evenly


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
    from pipeline.geometry.voxels import representatives
    from pipeline.students.grid import Grid

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

"""Writing the full-scan set: whole scans as probes score them. Nothing is drawn, so it is computed once and stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.writing import PartitionWriter
from pipeline.common.parallel import for_each
from pipeline.config.model import Points
from pipeline.datasets.records import PartitionRecord
from pipeline.geometry.full_scan import FullScan, full_scan
from pipeline.plan.parts import Store


def write_full_scans(
    store: Store,
    points: Points,
    partition: PartitionRecord,
    member: str,
    folder: Path,
    scans: PartitionReader,
    threads: int | None = None,
) -> Manifest:
    """Compute and publish the full scans of a partition, from its scan store; scan by scan on `threads` threads.

    A scan whose lidar file could not be read has no points here either; it is listed as in the scan store.

    Raises:
        BadInput: if no point of a scan lies in the field of view.
    """
    bounds = scans.read("scan_offsets").astype(np.int64)
    lost = [item for item in scans.manifest.left_out if "scan" in item]
    unread = {item["scan"] for item in lost}

    def look(number: int) -> FullScan:
        name = partition.scans[number].name
        if name in unread:
            nobody = np.empty(0, np.uint16)
            return FullScan(nobody, nobody.reshape(0, points.neighbours), nobody)
        xyz = scans.read("xyz", int(bounds[number]), int(bounds[number + 1]))
        try:
            return full_scan(xyz, points)
        except BadInput as error:
            raise BadInput(f"{store.dataset} scan {name}: {error}") from error

    found = for_each(look, range(len(partition.scans)), threads)
    with PartitionWriter(
        folder,
        FULL_SCANS,
        partition=partition.name,
        member_digest=member,
        identity=store.identity,
        attributes={
            "scans": [scan.name for scan in partition.scans],
            "voxel": points.voxel,
            "field_of_view": store.identity["field_of_view"],
        },
    ) as writer:
        writer.put("scan_offsets", bounds.astype(np.uint64))
        writer.put("kept_offsets", np.cumsum([0, *(len(scan.kept) for scan in found)]).astype(np.uint64))
        for name in ("kept", "neighbours", "nearest"):
            _append(writer, name, [getattr(scan, name) for scan in found])
        counts = {
            "scans": len(found),
            "points": int(bounds[-1]),
            "representatives": sum(len(scan.kept) for scan in found),
        }
        if lost:
            counts["unreadable"] = len(lost)
        return writer.publish(counts=counts, left_out=lost)


def _append(writer: PartitionWriter, name: str, pieces: Iterable[np.ndarray]) -> None:
    """One array from a piece of each scan, never copied as a whole: of dense scans it is a gigabyte."""
    pieces = list(pieces)
    dtype = np.result_type(*pieces)  # as wide as the widest of them
    shape = (sum(map(len, pieces)), *pieces[0].shape[1:])
    array = writer.create(name, shape, str(dtype))
    for piece in pieces:
        array.append(piece.astype(dtype, copy=False))

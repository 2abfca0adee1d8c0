"""The full-scans stage: whole scans as they are scored. Nothing in them is random, so they are computed once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.sources import sources_of
from cache_schemas.writing import PartitionWriter
from pipeline.common.parallel import for_each
from pipeline.config.model import Points
from pipeline.geometry.full_scan import FullScan, full_scan
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.unreadable import lost_scans


def write_full_scans(
    target: Target, scans: PartitionReader, points: Points, threads: int | None = None
) -> Manifest:
    """Compute and publish the full scans of a partition, from its scan store; scan by scan on `threads` threads.

    A scan whose lidar file could not be read has no points here either; it is listed as in the scan store.

    Raises:
        BadInput: if no point of a scan lies in the field of view.
    """
    names = target.partition.scan_names
    bounds = scans.read("scan_offsets").astype(np.int64)
    lost = lost_scans(scans)
    unread = {entry["scan"] for entry in lost}

    def look(number: int) -> FullScan:
        if names[number] in unread:
            no_rows = np.empty(0, np.uint16)
            return FullScan(no_rows, no_rows.reshape(0, points.neighbours), no_rows)
        xyz = scans.read("xyz", int(bounds[number]), int(bounds[number + 1]))
        try:
            return full_scan(xyz, points)
        except BadInput as error:
            raise BadInput(f"{target.store.dataset} scan {names[number]}: {error}") from error

    full_scans = for_each(look, range(len(names)), threads)
    attributes = {
        "scans": names,
        "voxel": points.voxel,
        "field_of_view": target.store.identity["field_of_view"],
    }
    with target.writer(FULL_SCANS, attributes) as writer:
        writer.put("scan_offsets", bounds.astype(np.uint64))
        writer.put("kept_offsets", np.cumsum([0, *(len(scan.kept) for scan in full_scans)]).astype(np.uint64))
        for name in ("kept", "neighbours", "nearest"):
            _append(writer, name, [getattr(scan, name) for scan in full_scans])
        counts = {
            "scans": len(full_scans),
            "points": int(bounds[-1]),
            "representatives": sum(len(scan.kept) for scan in full_scans),
            **({"unreadable": len(lost)} if lost else {}),
        }
        return writer.publish(counts=counts, left_out=lost, sources=sources_of(scans.manifest))


def _append(writer: PartitionWriter, name: str, pieces: Iterable[np.ndarray]) -> None:
    """One array from a piece of each scan, never copied as a whole: of dense scans it is a gigabyte."""
    pieces = list(pieces)
    dtype = np.result_type(*pieces)  # as wide as the widest of them
    shape = (sum(map(len, pieces)), *pieces[0].shape[1:])
    array = writer.create(name, shape, str(dtype))
    for piece in pieces:
        array.append(piece.astype(dtype, copy=False))

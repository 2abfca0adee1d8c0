"""The scans stage: the points, and where there are any the labels, of a partition's scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.writing import PartitionWriter
from pipeline.datasets.files import check_size
from pipeline.datasets.reader import Reader
from pipeline.datasets.records import PartitionRecord, ScanRecord
from pipeline.parallel import for_each
from pipeline.plan import Store


def write_scans(
    reader: Reader,
    root: Path,
    store: Store,
    partition: PartitionRecord,
    member: str,
    folder: Path,
    threads: int | None = None,
) -> Manifest:
    """Read every lidar file of a partition and publish its scans.

    Raises:
        BadInput: for a file that is missing, cut, or holds values that are not finite.
    """
    for scan in partition.scans:
        check_size(root / scan.path, scan.bytes)
    read = for_each(lambda scan: reader.read_points(root, scan), partition.scans, threads)
    offsets = np.cumsum([0, *(len(xyz) for xyz, _ in read)]).astype(np.uint64)
    with PartitionWriter(
        folder,
        SCANS,
        partition=partition.name,
        member_digest=member,
        identity=store.identity,
        attributes={"frame": reader.traits.frame, "scans": [scan.name for scan in partition.scans]},
    ) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("xyz", np.concatenate([xyz for xyz, _ in read]))
        writer.put("intensity", np.concatenate([intensity for _, intensity in read]))
        return writer.publish(counts={"scans": len(read), "points": int(offsets[-1])}, left_out=[])


def write_labels(
    reader: Reader,
    root: Path,
    store: Store,
    partition: PartitionRecord,
    member: str,
    folder: Path,
    threads: int | None = None,
) -> Manifest:
    """Read every label file of a partition and publish its classes.

    Raises:
        BadInput: for a file that is missing, has another length than its scan, or holds unknown classes.
    """

    def read_one(scan: ScanRecord) -> np.ndarray:
        if scan.label_path is not None and scan.label_bytes is not None:
            check_size(root / scan.label_path, scan.label_bytes)
        labels = reader.read_labels(root, scan)
        points = len(reader.read_points(root, scan)[0])
        if len(labels) != points:
            raise BadInput(
                f"scan {scan.name}: {root / str(scan.label_path)} has {len(labels)} labels for {points} points"
            )
        return labels

    read = for_each(read_one, partition.scans, threads)
    offsets = np.cumsum([0, *map(len, read)]).astype(np.uint64)
    label = np.concatenate(read)
    with PartitionWriter(
        folder,
        LABELS,
        partition=partition.name,
        member_digest=member,
        identity=store.identity,
        attributes={"classes": list(reader.traits.classes), "scans": [scan.name for scan in partition.scans]},
    ) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("label", label)
        counts = {"scans": len(read), "points": len(label), "labelled_points": int((label != 255).sum())}
        return writer.publish(counts=counts, left_out=[])

"""The scans and labels stages: the points, and the labels if there are any, of a partition's scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest
from cache_schemas.scans import LABELS, SCANS
from pipeline.common.parallel import for_each
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.fence import ReaderMistake
from pipeline.datasets.files import check_size
from pipeline.datasets.reader import Reader
from pipeline.datasets.records import ScanRecord
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.unreadable import Unreadable


def write_scans(
    target: Target, reader: Reader, root: Path, threads: int | None = None, *, skip: bool = False
) -> Manifest:
    """Read every lidar file of a partition and publish its scans.

    Args:
        skip: whether a file that cannot be read is left out, and listed: its scan then has no points.

    Raises:
        BadInput: for a file that is missing, cut, or holds values that are not finite; with `skip` only if that is so
            of every file.
    """
    unreadable, scans = Unreadable(), target.partition.scans

    def read_one(row: int) -> tuple[np.ndarray, np.ndarray]:
        scan = scans[row]
        try:
            return _points(reader, root, scan)
        except BadInput as error:
            if not skip or isinstance(error, ReaderMistake):
                raise
            unreadable.note(row, scan.path, error)
            return np.empty((0, 3), np.float32), np.empty(0, np.float32)

    read = for_each(read_one, range(len(scans)), threads)
    unreadable.check_some_readable(len(read), "lidar files")
    names = target.partition.scan_names
    offsets = np.cumsum([0, *(len(xyz) for xyz, _ in read)]).astype(np.uint64)
    with target.writer(SCANS, {"frame": reader.traits.frame, "scans": names}) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("xyz", np.concatenate([xyz for xyz, _ in read]))
        writer.put("intensity", np.concatenate([intensity for _, intensity in read]))
        counts = {"scans": len(read), "points": int(offsets[-1]), **unreadable.counts}
        return writer.publish(counts=counts, left_out=unreadable.left_out(names))


def write_labels(
    target: Target, reader: Reader, root: Path, threads: int | None = None, *, skip: bool = False
) -> Manifest:
    """Read every label file of a partition and publish its classes.

    Args:
        skip: whether a file that cannot be read is left out, and listed. If it is the label file, all labels of its scan
            are 255; if it is the lidar file, the scan has no points, and so no labels.

    Raises:
        BadInput: for a file that is missing, has another length than its scan, or holds unknown classes; with `skip`
            only if that is so of every file.
    """
    unreadable, scans = Unreadable(), target.partition.scans

    def read_one(row: int) -> np.ndarray:
        scan, points = scans[row], 0
        path = scan.path
        try:
            points = len(_points(reader, root, scan)[0])
            path = str(scan.label_path)
            return _labels(reader, root, scan, points)
        except BadInput as error:
            if not skip or isinstance(error, ReaderMistake):
                raise
            unreadable.note(row, path, error)
            return np.full(points, 255, np.uint8)

    read = for_each(read_one, range(len(scans)), threads)
    unreadable.check_some_readable(len(read), "label files")
    names = target.partition.scan_names
    offsets = np.cumsum([0, *map(len, read)]).astype(np.uint64)
    label = np.concatenate(read)
    with target.writer(LABELS, {"classes": list(reader.traits.classes), "scans": names}) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("label", label)
        counts = {"scans": len(read), "points": len(label), "labelled_points": int((label != 255).sum())}
        return writer.publish(counts=counts | unreadable.counts, left_out=unreadable.left_out(names))


def _points(reader: Reader, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
    """A scan's lidar file, if it is the indexed one."""
    check_size(root / scan.path, scan.bytes)
    return read_points(reader, root, scan)


def _labels(reader: Reader, root: Path, scan: ScanRecord, points: int) -> np.ndarray:
    """A scan's label file, if it is the indexed one and fits its points."""
    if scan.label_path is not None and scan.label_bytes is not None:
        check_size(root / scan.label_path, scan.label_bytes)
    return read_labels(reader, root, scan, points)

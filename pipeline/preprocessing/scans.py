"""The scans and labels stages: the points, and the labels if there are any, of a partition's scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest
from cache_schemas.scans import LABELS, SCANS
from pipeline.common.parallel import for_each
from pipeline.config.model import Dataset
from pipeline.datasets.array_checks import read_labels, read_points
from pipeline.datasets.data_warnings import Warnings
from pipeline.datasets.fence import ReaderMistake
from pipeline.datasets.files import check_size
from pipeline.datasets.label_checks import check_labels
from pipeline.datasets.point_checks import Expected, check_lengths, check_points
from pipeline.datasets.reader import Reader
from pipeline.datasets.records import ScanRecord
from pipeline.datasets.time_checks import check_times
from pipeline.preprocessing.source_files import SourceFiles
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.unreadable import Unreadable


def write_scans(
    target: Target,
    reader: Reader,
    root: Path,
    threads: int | None = None,
    *,
    skip: bool = False,
    dataset: Dataset | None = None,
) -> Manifest:
    """Read every lidar file of a partition and publish its scans. What is unlikely of their values is warned of.

    Args:
        skip: whether a file that cannot be read is left out, and listed: its scan then has no points.
        dataset: the config's block, for what it says of intensities, and what it allows.

    Raises:
        BadInput: for a file that is missing, cut, or holds values that are not finite or cannot be right; with `skip` only
            if that is so of every file.
    """
    unreadable, scans = Unreadable(), target.partition.scans
    expected, warnings = Expected.of(reader.traits, dataset), Warnings(dataset.allow if dataset else ())
    files = SourceFiles(len(scans))

    def read_one(row: int) -> tuple[np.ndarray, np.ndarray]:
        scan = scans[row]
        try:
            return files.read(
                row,
                root / scan.path,
                scan.content,
                lambda: _points(reader, root, scan, row, expected, warnings),
            )
        except BadInput as error:
            if not skip or isinstance(error, ReaderMistake):
                raise
            unreadable.note(row, scan.path, error)
            return np.empty((0, 3), np.float32), np.empty(0, np.float32)

    read = for_each(read_one, range(len(scans)), threads)
    unreadable.check_some_readable(len(read), "lidar files")
    check_times(scans, warnings)
    check_lengths([len(xyz) for xyz, _ in read], [scan.path for scan in scans], warnings)
    names = target.partition.scan_names
    offsets = np.cumsum([0, *(len(xyz) for xyz, _ in read)]).astype(np.uint64)
    with target.writer(SCANS, {"frame": reader.traits.frame, "scans": names}) as writer:
        writer.put("scan_offsets", offsets)
        writer.put("xyz", np.concatenate([xyz for xyz, _ in read]))
        writer.put("intensity", np.concatenate([intensity for _, intensity in read]))
        counts = {"scans": len(read), "points": int(offsets[-1]), **unreadable.counts}
        return writer.publish(
            counts=counts,
            left_out=unreadable.left_out(names),
            warnings=warnings.entries(len(scans), "lidar files"),
            sources=files.contents,
        )


def write_labels(
    target: Target,
    reader: Reader,
    root: Path,
    threads: int | None = None,
    *,
    skip: bool = False,
    dataset: Dataset | None = None,
) -> Manifest:
    """Read every label file of a partition and publish its classes. What is unlikely of them is warned of.

    Args:
        skip: whether a file that cannot be read is left out, and listed. If it is the label file, all labels of its scan
            are 255; if it is the lidar file, the scan has no points, and so no labels.
        dataset: as for `write_scans`.

    Raises:
        BadInput: for a file that is missing, has another length than its scan, or holds unknown classes; for a lidar file
            that `write_scans` refuses; with `skip` only if that is so of every file.
    """
    unreadable, scans = Unreadable(), target.partition.scans
    allow = dataset.allow if dataset else ()
    expected, warnings, about_points = Expected.of(reader.traits, dataset), Warnings(allow), Warnings(allow)
    files = SourceFiles(2 * len(scans))

    def read_one(row: int) -> np.ndarray:
        scan, points = scans[row], 0
        path = scan.path
        try:
            lidar = files.read(
                len(scans) + row,
                root / path,
                scan.content,
                lambda: _points(reader, root, scan, row, expected, about_points),
            )
            points = len(lidar[0])
            path = str(scan.label_path)
            labels = files.read(
                row, root / path, scan.label_content, lambda: _labels(reader, root, scan, points)
            )
            warnings.note(row, path, check_labels(labels), f"scan {scan.name}: {root / path}")
            return labels
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
        return writer.publish(
            counts=counts | unreadable.counts,
            left_out=unreadable.left_out(names),
            warnings=warnings.entries(len(scans), "label files"),
            sources=files.contents,
        )


def _points(
    reader: Reader, root: Path, scan: ScanRecord, row: int, expected: Expected, warnings: Warnings
) -> tuple[np.ndarray, np.ndarray]:
    """A scan's lidar file, if it is the indexed one and can be right; what is unlikely of it goes to the warnings."""
    check_size(root / scan.path, scan.bytes)
    xyz, intensity = read_points(reader, root, scan)
    findings = check_points(xyz, intensity, expected)
    warnings.note(row, scan.path, findings, f"scan {scan.name}: {root / scan.path}")
    return xyz, intensity


def _labels(reader: Reader, root: Path, scan: ScanRecord, points: int) -> np.ndarray:
    """A scan's label file, if it is the indexed one and fits its points."""
    if scan.label_path is not None and scan.label_bytes is not None:
        check_size(root / scan.label_path, scan.label_bytes)
    return read_labels(reader, root, scan, points)

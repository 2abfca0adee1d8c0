"""Checks of the arrays that a reader gives: the reader may be a user's own, and wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.datasets.fence import ReaderMistake, reading
from pipeline.datasets.reader import Reader
from pipeline.datasets.records import ScanRecord

IGNORED = 255


def read_points(reader: Reader, root: Path, scan: ScanRecord) -> tuple[np.ndarray, np.ndarray]:
    """xyz (N, 3) and intensity (N,) of a scan, both float32, if the reader gives just that.

    Raises:
        ReaderMistake: for other types, shapes or dtypes, and what no file makes a reader raise.
        BadInput: for whatever else the reader raises, no points, or values that are not finite.
    """
    what = f"scan {scan.name}: `read_points` of {reader.traits.reader}, of {root / scan.path}"
    with reading(what, names=(scan.name, scan.path)):
        pair = reader.read_points(root, scan)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ReaderMistake(
            f"scan {scan.name}: `read_points` of {reader.traits.reader} must give xyz and intensity"
        )
    xyz, intensity = pair
    _check_array(reader, scan, "read_points", "xyz", xyz, (None, 3), np.float32)
    _check_array(reader, scan, "read_points", "intensity", intensity, (len(xyz),), np.float32)
    if not len(xyz):
        raise BadInput(f"scan {scan.name}: {root / scan.path} has no points")
    bad = int((~(np.isfinite(xyz).all(axis=1) & np.isfinite(intensity))).sum())
    if bad:
        raise BadInput(
            f"scan {scan.name}: {root / scan.path} holds {bad} of {len(xyz)} points with NaN or infinite values; "
            f"download the file again or leave its partition out"
        )
    return xyz, intensity


def read_labels(reader: Reader, root: Path, scan: ScanRecord, points: int) -> np.ndarray:
    """Classes (points,) uint8 of a scan, if the reader gives just that.

    Raises:
        ReaderMistake: for another type or dtype, and what no file makes a reader raise.
        BadInput: for whatever else the reader raises, another length, or a class that the reader's traits do not have.
    """
    what = f"scan {scan.name}: `read_labels` of {reader.traits.reader}, of {root / str(scan.label_path)}"
    with reading(what, names=(scan.name, scan.path, str(scan.label_path))):
        labels = reader.read_labels(root, scan)
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and len(labels) != points:
        raise BadInput(
            f"scan {scan.name}: {root / str(scan.label_path)} has {len(labels)} labels for {points} points"
        )
    _check_array(reader, scan, "read_labels", "labels", labels, (points,), np.uint8)
    wrong = (labels >= len(reader.traits.classes)) & (labels != IGNORED)
    if wrong.any():
        raise BadInput(
            f"scan {scan.name}: `read_labels` of {reader.traits.reader} gives class {int(labels[wrong][0])} for "
            f"{int(wrong.sum())} points, but its traits name {len(reader.traits.classes)} classes; ignored ones are 255"
        )
    return labels


def _check_array(
    reader: Reader,
    scan: ScanRecord,
    call: str,
    what: str,
    value: object,
    shape: tuple[int | None, ...],
    dtype: type,
) -> None:
    """Refuse anything but an array of this shape and dtype; None stands for any length."""
    sides = ", ".join("N" if side is None else str(side) for side in shape)
    wanted = f"({sides}{',' if len(shape) == 1 else ''}) {np.dtype(dtype)}"
    if not isinstance(value, np.ndarray):
        description = type(value).__name__
    elif (
        value.dtype == dtype
        and value.ndim == len(shape)
        and all(side in (None, length) for side, length in zip(shape, value.shape, strict=True))
    ):
        return
    else:
        description = f"{value.shape} {value.dtype}"
    raise ReaderMistake(
        f"scan {scan.name}: `{call}` of {reader.traits.reader} gives {what} {description}, not {wanted}"
    )

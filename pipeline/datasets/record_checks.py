"""Checks of the records that a reader gives: the reader may be a user's own, and wrong."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from cache_schemas.places import NAME_LENGTH, PARTITION_NAME
from pipeline.datasets.files import MOST_BYTES, MOST_PIXELS
from pipeline.datasets.reader import AbsentPartition, Traits
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.geometry.calibration import MaskRule, RigidStep
from pipeline.geometry.calibration_checks import check_intrinsics, check_step

SPLITS = ("train", "val", "test")


def check_traits(traits: Traits) -> None:
    """Refuse traits of which a value is of another kind than they name: ids, stores and tables rest on them.

    Raises:
        ValueError: naming the first.
    """
    numbers = (int, float)
    intensity = traits.intensity
    for key, right, wanted in (
        ("reader", isinstance(traits.reader, str) and bool(traits.reader), "a name"),
        ("reader_version", type(traits.reader_version) is int, "a whole number"),
        ("label_map_version", type(traits.label_map_version) is int, "a whole number"),
        ("frame", isinstance(traits.frame, str), "the frame in words"),
        (
            "classes",
            _are_names(traits.classes) and len(traits.classes) <= 255,
            "a tuple of at most 255 distinct names",
        ),
        ("cameras", _are_names(traits.cameras), "a tuple of distinct names"),
        ("named_splits", _are_names(traits.named_splits), "a tuple of distinct names"),
        ("published_mask", isinstance(traits.published_mask, MaskRule), "a griddle.MaskRule"),
        (
            "point_bytes",
            isinstance(traits.point_bytes, numbers) and traits.point_bytes > 0,
            "a number over 0",
        ),
        (
            "intensity",
            intensity is None
            or (
                isinstance(intensity, Sequence)
                and len(intensity) == 2
                and all(isinstance(number, numbers) and math.isfinite(number) for number in intensity)
                and intensity[1] > 0
            ),
            "None, or a mean and a standard deviation over 0",
        ),
        (
            "intensity_range",
            traits.intensity_range is None or _is_range(traits.intensity_range),
            "None, or the least and a greater greatest intensity",
        ),
        (
            "reach",
            traits.reach is None or (_is_number(traits.reach) and traits.reach > 0),
            "None, or metres over 0",
        ),
    ):
        if not right:
            raise ValueError(f"traits.{key} is {getattr(traits, key)!r:.100}; give {wanted}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_range(pair: object) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] < pair[1]


def _are_names(names: object) -> bool:
    return (
        isinstance(names, list | tuple)
        and all(isinstance(name, str) and name for name in names)
        and len(set(names)) == len(names)
    )


def check_partition(partition: PartitionRecord | AbsentPartition, traits: Traits, seen: set[str]) -> None:
    """Refuse a partition that cannot be written. Its name is added to those `seen`.

    Raises:
        ValueError: for a name that no store takes or that was there already, an unknown split or camera, no scans, scans out of
            order, paths that lead out of the root, or calibration of a wrong shape.
    """
    if not isinstance(partition, PartitionRecord | AbsentPartition):
        raise ValueError(
            f"`partitions` yields {type(partition).__name__}, not PartitionRecord or AbsentPartition"
        )
    name = partition.name
    if not isinstance(name, str) or not PARTITION_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise ValueError(
            f"partition {name!r:.120}: a name is of letters, digits, `_` and `-`, begins with a letter or digit, and has at "
            f"most {NAME_LENGTH} of them: it names files"
        )
    if name in seen:
        raise ValueError(f"partition {name} is there twice")
    seen.add(name)
    if partition.split not in SPLITS:
        raise ValueError(f"partition {name}: split {partition.split!r} is none of {', '.join(SPLITS)}")
    if isinstance(partition, AbsentPartition) or partition.problem:
        return
    if not partition.scans:
        raise ValueError(f"partition {name} has no scans; leave it out, or yield an AbsentPartition")
    names = Counter(partition.scan_names)
    twice = [scan for scan, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"partition {name}: scan {twice[0]} is there {names[twice[0]]} times")
    for earlier, later in zip(partition.scans, partition.scans[1:], strict=False):
        if natural(later.path) <= natural(earlier.path):
            raise ValueError(
                f"partition {name}: scans are out of order: {later.path} comes after {earlier.path}; yield them in the "
                f"order of their files' names, which identity rests on"
            )
    for scan in partition.scans:
        _check_scan(f"partition {name}, scan {scan.name}", scan, traits)


def check_names(partition: PartitionRecord, seen: set[str]) -> None:
    """Refuse a scan whose name another partition has, too: a scan's name decides its random draws. Names go to `seen`.

    Raises:
        ValueError: naming the first that is there twice.
    """
    for scan in partition.scans:
        if scan.name in seen:
            raise ValueError(
                f"partition {partition.name}: another partition has a scan named {scan.name}, too; put the partition's "
                f"name before it"
            )
        seen.add(scan.name)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 9 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _check_scan(where: str, scan: ScanRecord, traits: Traits) -> None:
    for text in (scan.name, scan.result_name):
        _check_text(where, text)
    _check_calibration(f"{where}, the steps to its frame", scan.steps)
    for size in (scan.bytes, scan.label_bytes or 0):
        if not 0 <= size <= MOST_BYTES:
            raise ValueError(f"{where}: a file of {size:,} bytes; one of a scan has at most {MOST_BYTES:,}")
    for path in (scan.path, scan.label_path, *(image.path for image in scan.images)):
        if path is not None:
            _check_text(where, path)
        if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
            raise ValueError(f"{where}: {path} must be relative to the dataset's root and below it")
    if (scan.label_path is None) != (scan.label_bytes is None):
        raise ValueError(f"{where}: give label_path and label_bytes, or neither")
    if scan.label_path is not None and not traits.classes:
        raise ValueError(f"{where} has labels, but the traits name no classes")
    for seconds in (scan.time, *(image.time for image in scan.images)):
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"{where}: a time of {seconds}; give seconds, or None")
    cameras = [image.camera for image in scan.images]
    if len(set(cameras)) < len(cameras):
        raise ValueError(f"{where}: a camera is there twice: {', '.join(cameras)}")
    for image in scan.images:
        _check_image(f"{where}, image {image.path}", image, traits)


def _check_text(where: str, text: str) -> None:
    """Refuse what no file system and no JSON takes."""
    if not isinstance(text, str) or "\0" in text:
        raise ValueError(f"{where}: {text!r:.100} is no text, or has a NUL in it")
    text.encode()  # a surrogate has no bytes


def _check_image(where: str, image: ImageRecord, traits: Traits) -> None:
    if image.camera not in traits.cameras:
        raise ValueError(
            f"{where}: the traits have no camera {image.camera!r}; they have {list(traits.cameras)}"
        )
    if image.height < 1 or image.width < 1:
        raise ValueError(f"{where}: a size of {image.height} x {image.width} pixels")
    if image.height * image.width > MOST_PIXELS or not 0 <= image.bytes <= MOST_BYTES:
        raise ValueError(
            f"{where}: {image.height} x {image.width} pixels in {image.bytes:,} bytes; at most {MOST_PIXELS:,} pixels and "
            f"{MOST_BYTES:,} bytes are read"
        )
    try:
        check_intrinsics(image.intrinsics, image.height, image.width)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    _check_calibration(where, image.steps)


def _check_calibration(where: str, steps: Sequence[RigidStep]) -> None:
    for step in steps:
        try:
            check_step(step)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

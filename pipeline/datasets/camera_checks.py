"""Whether each camera sees something: one that sees no point of a whole partition has a calibration that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.data_warnings import Finding, Warnings
from pipeline.datasets.records import ImageRecord
from pipeline.geometry.blind_cameras import why_blind

FEW = 500
"""Points of a partition below which it may be that no camera sees any."""


@dataclass(frozen=True)
class Sight:
    """What one camera sees of one scan.

    Attributes:
        scan: its number.
        points: of the scan.
        seen: of them.
    """

    scan: int
    image: ImageRecord
    points: int
    seen: int


def check_cameras(
    sights: Sequence[Sight], points_of: Callable[[int], np.ndarray], warnings: Warnings, where: str
) -> None:
    """Note the cameras that see no point of any scan that has some, with the likely cause.

    Args:
        points_of: gives xyz (N, 3) float32 of a scan, by its number.
        where: the partition, to begin an error's message with.

    Raises:
        BadInput: if no camera sees any, unless it is allowed: nothing could be learnt from the partition.
    """
    by_camera: dict[str, list[Sight]] = {}
    for sight in sights:
        if sight.points:
            by_camera.setdefault(sight.image.camera, []).append(sight)
    blind = [camera for camera, own in by_camera.items() if not any(sight.seen for sight in own)]
    if not blind:
        return
    refused = len(blind) == len(by_camera) and sum({s.scan: s.points for s in sights}.values()) >= FEW
    for row, camera in enumerate(blind):
        first, scans = by_camera[camera][0], len(by_camera[camera])
        why = (
            f"camera {camera} sees no point of its {scans} scan(s). In the first, {first.image.path}, "
            f"{why_blind(points_of(first.scan), first.image)}"
        )
        warnings.note(row, camera, [Finding("cameras", why, refused)], where)


def cameras_of(sights: Sequence[Sight]) -> int:
    """How many cameras there are."""
    return len({sight.image.camera for sight in sights})

"""From points to pixels: the rigid steps to the camera, the pinhole, and the mask of what it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.reader import MaskRule
from pipeline.datasets.records import ImageRecord
from pipeline.datasets.rigid import to_camera


@dataclass(frozen=True)
class Seen:
    """The points of a scan that one camera sees.

    Attributes:
        point: (S,) uint32, rows of the scan, ascending.
        pixel: (S, 2) float32, continuous column u and row v in the original image; its floor is that of float64.
        depth: (S,) float32, metres along the optical axis.
    """

    point: np.ndarray
    pixel: np.ndarray
    depth: np.ndarray


def see(xyz: np.ndarray, image: ImageRecord, rule: MaskRule) -> Seen:
    """The points (N, 3) float32 of a scan that an image shows, under a dataset's mask rule."""
    camera = to_camera(xyz, image.steps, rule.arithmetic)
    pixel, depth = pinhole(camera, image.intrinsics)
    u, v = pixel.T
    ahead = depth if rule.along == "depth" else xyz[:, 0]
    with np.errstate(invalid="ignore"):
        mask = (ahead > rule.beyond) & (depth > 0) & (u > rule.first) & (u < image.width - rule.last)
        mask &= (v > rule.first) & (v < image.height - rule.last)
    point = np.flatnonzero(mask)
    return Seen(
        point=point.astype(np.uint32),
        pixel=_same_floor(pixel[point]),
        depth=depth[point].astype(np.float32),
    )


def pinhole(camera: np.ndarray, intrinsics: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) float64 and depths (N,) of points in the camera's frame; meaningless at depth 0."""
    matrix = np.asarray(intrinsics, np.float64).reshape(3, 3)
    image = camera.astype(np.float64) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return image[:, :2] / image[:, 2:3], camera[:, 2]


def _same_floor(pixel: np.ndarray) -> np.ndarray:
    """float32, and where rounding would step over to the next pixel, the number just before it."""
    rounded = pixel.astype(np.float32)
    over = np.floor(rounded) > np.floor(pixel)
    return np.where(over, np.nextafter(rounded, np.float32(-np.inf)), rounded)

"""From points to pixels: the rigid steps to the camera, the pinhole, and the mask of what it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry.calibration import Camera, MaskRule, RigidStep


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


def see(xyz: np.ndarray, image: Camera, rule: MaskRule) -> Seen:
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


def to_camera(xyz: np.ndarray, steps: tuple[RigidStep, ...], arithmetic: str) -> np.ndarray:
    """Points (N, 3) in the camera's frame (x right, y down, z forward).

    `float64` is exact to rounding. `float32` repeats the nuScenes devkit's LidarPointCloud under numpy < 2, which
    the published code uses: rotations in float64 and translations in float32, rounded to float32 after every step.
    In the global frame, a kilometre from its origin, that moves points by some 0.06 mm and pixels by up to 0.01.
    """
    points: np.ndarray = xyz.astype(np.float32 if arithmetic == "float32" else np.float64)
    for step in steps:
        matrix = rotation_matrix(step)
        translation: np.ndarray = np.asarray(step.translation, points.dtype)
        if step.inverse:
            points = ((points - translation).astype(np.float64) @ matrix).astype(points.dtype)
        else:
            points = (points.astype(np.float64) @ matrix.T).astype(points.dtype) + translation
    return points


def in_file_frame(xyz: np.ndarray, steps: tuple[RigidStep, ...]) -> np.ndarray:
    """Points (N, 3) float32 of a scan in the frame of its lidar file, (N, 3) float64: back along the scan's steps."""
    points = xyz.astype(np.float64)
    for step in reversed(steps):
        matrix, translation = rotation_matrix(step), np.asarray(step.translation, np.float64)
        points = points @ matrix.T + translation if step.inverse else (points - translation) @ matrix
    return points


def along_steps(points: np.ndarray, steps: tuple[RigidStep, ...]) -> np.ndarray:
    """Points (N, 3) float64 of a lidar file in the frame of its scan, (N, 3) float64."""
    return to_camera(points, steps, "float64")


def rotation_matrix(step: RigidStep) -> np.ndarray:
    """A step's rotation (3, 3) float64."""
    if len(step.rotation) == 9:
        return np.array(step.rotation, np.float64).reshape(3, 3)
    w, x, y, z = step.rotation
    matrix: np.ndarray = Rotation.from_quat([x, y, z, w]).as_matrix()
    return matrix


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

"""The rigid steps of a record as arithmetic: from a lidar file to its scan, and from there to a camera."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.datasets.records import RigidStep


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

"""Rigid poses. A pose takes points of a child frame to its parent: p_parent = rotation @ p_child +
translation.

Frames of the toy world: *town* (x along the road, y to the left, z up, metres, road surface at z = 0),
*ego* (x forward, y left, z up, on the ground below the rear axle) and each sensor's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """rotation: (3, 3) float64, orthonormal; translation: (3,) float64, metres."""

    rotation: np.ndarray
    translation: np.ndarray

    def __matmul__(self, inner: Pose) -> Pose:
        """The pose of a grandchild: self is parent←child, inner is child←grandchild."""
        return Pose(self.rotation @ inner.rotation, self.rotation @ inner.translation + self.translation)

    def inverse(self) -> Pose:
        """parent→child."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the child frame, in the parent frame (float64)."""
        return points @ self.rotation.T + self.translation

    def quaternion(self) -> list[float]:
        """The rotation as a unit quaternion [w, x, y, z] with w >= 0."""
        m = self.rotation
        # The largest of the four squared components is computed first: no division by a small number.
        squares = 0.25 * np.array([
            1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2],
        ])  # fmt: skip
        products = 0.25 * np.array([
            [0.0, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], 0.0, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 0.0, m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 0.0],
        ])  # fmt: skip
        largest = int(np.argmax(squares))
        root = math.sqrt(squares[largest])
        q = products[largest] / root
        q[largest] = root
        q = q / np.linalg.norm(q)
        return [float(v) for v in (q if q[0] >= 0 else -q)]


def from_angles(
    translation: tuple[float, float, float], yaw: float, pitch: float = 0, roll: float = 0
) -> Pose:
    """A pose from angles in radians: roll about x, then pitch about y, then yaw about z."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    rotation = np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ])  # fmt: skip
    return Pose(rotation, np.asarray(translation, dtype=np.float64))


def looking_along(direction: np.ndarray, translation: np.ndarray, right: np.ndarray) -> Pose:
    """The pose of a camera frame (x right, y down, z forward) that looks along `direction` (3,), with its x
    axis as near to `right` (3,) as can be."""
    forward = direction / np.linalg.norm(direction)
    x = right - forward * (right @ forward)
    x = x / np.linalg.norm(x)
    return Pose(
        np.stack([x, np.cross(forward, x), forward], axis=1), np.asarray(translation, dtype=np.float64)
    )

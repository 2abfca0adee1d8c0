"""A pinhole camera: which ray each pixel looks along, and which pixels can see a primitive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.town.frames import Pose
from pipeline.datasets.town.raycast import RayGrid

_NEAR = 0.05  # metres; nothing nearer is looked at
_EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])  # (12, 2)


@dataclass(frozen=True)
class Pinhole:
    """Camera frame: x right, y down, z forward. Pixel (r, c) covers r <= v < r + 1 and c <= u < c + 1."""

    rows: int
    cols: int
    fx: float
    fy: float
    cx: float
    cy: float

    def intrinsic(self) -> list[list[float]]:
        """The 3 x 3 camera matrix."""
        return [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]

    def rays(self, pose: Pose) -> RayGrid:
        """One ray through the middle of each pixel; pose: town←camera."""
        x = ((np.arange(self.cols) + 0.5 - self.cx) / self.fx)[None, :]
        y = ((np.arange(self.rows) + 0.5 - self.cy) / self.fy)[:, None]
        length = np.sqrt(x * x + y * y + 1.0)
        directions = np.empty((3, self.rows, self.cols), np.float32)
        for axis, (along_x, along_y, along_z) in enumerate(pose.rotation.tolist()):
            directions[axis] = (along_x * x + along_y * y + along_z) / length
        return RayGrid(pose.translation, directions, lambda corners: self._windows(pose, corners))

    def _windows(self, pose: Pose, corners: np.ndarray) -> np.ndarray:
        """The rectangle of pixels that each bounding box covers; see RayGrid.windows."""
        ends = pose.inverse().apply(corners)[:, _EDGES]  # (P, 12, 2, 3), camera frame
        depth = ends[..., 2]
        ahead = depth > _NEAR
        # An edge that crosses the near plane is cut there: the hull of what remains bounds what can be seen.
        run = depth[..., 1] - depth[..., 0]
        cut = np.clip((_NEAR - depth[..., 0]) / np.where(run == 0, 1.0, run), 0.0, 1.0)[..., None]
        crossing = ends[..., 0, :] + cut * (ends[..., 1, :] - ends[..., 0, :])
        ends = np.where(ahead[..., None], ends, crossing[..., None, :])
        seen = ahead.any(axis=-1)[..., None] & np.ones(2, bool)  # (P, 12, 2)

        z = np.maximum(ends[..., 2], _NEAR)
        u = ends[..., 0] / z * self.fx + self.cx
        v = ends[..., 1] / z * self.fy + self.cy
        (left, right), (top, bottom) = _span(u, seen), _span(v, seen)
        bounds = np.stack([
            np.floor(np.clip(top, 0, self.rows)), np.ceil(np.clip(bottom, 0, self.rows)),
            np.floor(np.clip(left, 0, self.cols)), np.ceil(np.clip(right, 0, self.cols)),
        ], axis=1).astype(np.int64)  # fmt: skip
        visible = seen.any(axis=(1, 2)) & (bounds[:, 1] > bounds[:, 0]) & (bounds[:, 3] > bounds[:, 2])
        return np.column_stack([np.flatnonzero(visible), bounds[visible]])


def _span(value: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest (P,) of value (P, 12, 2) where `among` is true."""
    return np.where(among, value, np.inf).min(axis=(1, 2)), np.where(among, value, -np.inf).max(axis=(1, 2))

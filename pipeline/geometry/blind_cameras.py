"""Why a camera may see no point of a scan: the likely cause, in words."""

from __future__ import annotations

import numpy as np

from pipeline.geometry.calibration import Camera
from pipeline.geometry.projection import pinhole, to_camera

FAR = 100.0
"""Metres between lidar and camera that no car has."""


def why_blind(xyz: np.ndarray, image: Camera) -> str:
    """Where the points (N, 3) float32 of a scan lie for a camera that sees none of them, and what is likely wrong."""
    points = to_camera(np.concatenate([np.zeros((1, 3), np.float32), xyz]), image.steps, "float64")
    apart = float(np.linalg.norm(points[0]))
    if apart > FAR:
        return (
            f"it is {apart:,.0f} m from the lidar: its steps end in another frame, one is left out, or translations are not in "
            f"metres"
        )
    ahead = points[1:][points[1:, 2] > 0]
    if not len(ahead):
        return (
            f"all {len(xyz):,} points are behind it: its steps lead the other way (`inverse`), or its axes are not x right, "
            f"y down, z forward"
        )
    pixel, _ = pinhole(ahead, image.intrinsics)
    column, row = np.median(pixel, axis=0)
    return (
        f"{len(ahead):,} of {len(xyz):,} points are before it, and none within its {image.width} x {image.height} pixels (their "
        f"middle is at column {column:,.0f}, row {row:,.0f}): its intrinsics are of another image size, or its steps of another "
        f"camera"
    )

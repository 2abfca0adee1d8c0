"""What lies at a hit: point, normal, and coordinates on the surface for its pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.town.primitives import Primitives, Shape


@dataclass(frozen=True)
class Surface:
    """N hits, town frame, float32."""

    point: np.ndarray  # (3, N) metres
    normal: np.ndarray  # (3, N) unit, outward
    along: np.ndarray  # (N,) metres along the surface (around it, for round shapes)
    up: np.ndarray  # (N,) metres from the underside, or across, on level faces
    level: np.ndarray  # (N,) bool, faces up or down


def surface_at(
    world: Primitives, origin: np.ndarray, directions: np.ndarray, distance: np.ndarray, primitive: np.ndarray
) -> Surface:
    """The surface that each of N rays hits.

    origin: (3,) metres; directions: (3, N) float32 unit; distance: (N,) float32; primitive: (N,) int.
    """
    point = directions * distance + origin.astype(np.float32)[:, None]
    cos, sin = (values.astype(np.float32)[primitive] for values in world.axes())
    half = world.half.T.astype(np.float32)[:, primitive]
    x, y, z = point - world.centre.T.astype(np.float32)[:, primitive]
    local = [cos * x + sin * y, cos * y - sin * x, z]
    unit = [value / size for value, size in zip(local, half, strict=True)]

    shape = world.shape[primitive]
    box, ball = shape == Shape.BOX, shape == Shape.ELLIPSOID
    side = np.abs(unit[0])
    other = np.abs(unit[1])
    height = np.abs(unit[2])
    level = np.where(box, (height >= side) & (height >= other), height >= 0.999) & ~ball
    along_x = box & ~level & (other > side)  # this face runs along the primitive's x axis

    # Normals of a round shape are the gradient of its equation; of a box, the axis of its face.
    upright = ~level
    nx = np.where(box, np.sign(unit[0]) * (upright & ~along_x), unit[0] / half[0] * upright)
    ny = np.where(box, np.sign(unit[1]) * along_x, unit[1] / half[1] * upright)
    nz = np.where(level, np.sign(unit[2]), np.where(ball, unit[2] / half[2], 0.0))
    scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
    normal = np.stack([(cos * nx - sin * ny) * scale, (sin * nx + cos * ny) * scale, nz * scale])

    around = np.arctan2(unit[1], unit[0]) * half[0]
    along = np.where(box, np.where(along_x | level, local[0] + half[0], local[1] + half[1]), around)
    up = np.where(level, local[1] + half[1], local[2] + half[2])
    return Surface(point, normal.astype(np.float32), along.astype(np.float32), up.astype(np.float32), level)

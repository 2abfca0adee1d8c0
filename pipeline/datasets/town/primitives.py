"""What the world is made of: boxes, upright cylinders and ellipsoids, each with a label and a paint.

All three shapes share one description (centre, half extents, turn about z), so that the ray caster can bring
any of them to its unit shape: the cube [-1, 1]³, the cylinder x² + y² <= 1 with |z| <= 1, the unit ball.
Ground regions are thin boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Label(IntEnum):
    """What a surface is. Dataset writers map these to their own class numbers."""

    ROAD = 0
    SIDEWALK = 1
    TERRAIN = 2
    BUILDING = 3
    VEGETATION = 4
    CAR = 5
    TRUCK = 6
    PEDESTRIAN = 7
    POLE = 8
    BARRIER = 9


class Shape(IntEnum):
    BOX = 0
    CYLINDER = 1
    ELLIPSOID = 2


@dataclass(frozen=True)
class Paint:
    """How a surface looks to a camera and to a lidar."""

    pattern: str  # name of a texture in textures.PATTERNS; mixes colour and accent
    colour: tuple[float, float, float]  # linear RGB albedo, 0 to 1
    accent: tuple[float, float, float]  # likewise
    tile: tuple[float, float] = (4.0, 4.0)  # metres that one repeat of the pattern covers (along, up)
    offset: tuple[float, float] = (0.0, 0.0)  # repeats by which the pattern is shifted
    reflectivity: float = 0.3  # lidar, 0 to 1; retroreflectors above
    roughness: float = 0.0  # metres (standard deviation) by which lidar returns scatter in depth
    gloss: float = 0.0  # how much sky it mirrors, 0 to 1
    flat_top: bool = True  # upward faces show the bare colour (a roof) instead of the pattern (a lawn)


@dataclass(frozen=True)
class Primitives:
    """P primitives as arrays, town frame, metres."""

    shape: np.ndarray  # (P,) uint8, Shape
    label: np.ndarray  # (P,) uint8, Label
    instance: np.ndarray  # (P,) int32; the parts of one car share a number
    centre: np.ndarray  # (P, 3) float64
    half: np.ndarray  # (P, 3) float64, half extents along the primitive's own axes
    yaw: np.ndarray  # (P,) float64, radians
    paints: tuple[Paint, ...]

    def __len__(self) -> int:
        return len(self.shape)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of the yaw, each (P,) float64."""
        return np.cos(self.yaw), np.sin(self.yaw)

    def corners(self) -> np.ndarray:
        """Corners of the bounding boxes, (P, 8, 3); bit k of a corner's number is its side on axis k."""
        bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
        local = (2.0 * bits - 1.0)[None] * self.half[:, None, :]
        cos, sin = (a[:, None] for a in self.axes())
        turned = (
            cos * local[..., 0] - sin * local[..., 1],
            sin * local[..., 0] + cos * local[..., 1],
            local[..., 2],
        )
        return np.stack(turned, axis=-1) + self.centre[:, None, :]


class Builder:
    """Collects primitives. Sizes are full extents; `z` is the height of a primitive's underside."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self._paints: list[Paint] = []
        self.instances = 0

    def new_instance(self) -> int:
        """The number under which the following parts belong together."""
        self.instances += 1
        return self.instances

    def add(
        self, shape: Shape, label: Label, paint: Paint, *,
        at: tuple[float, float], z: float, size: tuple[float, float, float], yaw: float = 0.0,
    ) -> None:  # fmt: skip
        """One primitive of the current instance, centred over `at` (x, y)."""
        length, width, height = size
        centre = (at[0], at[1], z + height / 2)
        self._rows.append(
            (int(shape), int(label), self.instances, centre, (length / 2, width / 2, height / 2), yaw)
        )
        self._paints.append(paint)

    def build(self) -> Primitives:
        shape, label, instance, centre, half, yaw = zip(*self._rows, strict=True)
        return Primitives(
            shape=np.array(shape, np.uint8),
            label=np.array(label, np.uint8),
            instance=np.array(instance, np.int32),
            centre=np.array(centre, np.float64),
            half=np.array(half, np.float64),
            yaw=np.array(yaw, np.float64),
            paints=tuple(self._paints),
        )

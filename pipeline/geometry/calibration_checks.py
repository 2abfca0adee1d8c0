"""Whether calibration can be a camera's at all: rotations that turn, intrinsics that belong to the picture.

A mirrored, scaled or transposed matrix projects without an error and puts every point on another pixel. What is checked
is what holds for every rigid camera; the limits leave room for the rounding of published calibration files.
"""

from __future__ import annotations

from functools import lru_cache
from math import hypot, isfinite

from pipeline.geometry.calibration import RigidStep

UNIT = 1e-3
"""A quaternion's length may be so far from 1."""
ORTHOGONAL = 5e-3
"""The products of a rotation's columns may be so far from those of a rotation; three digits after the point are within it."""
SKEW = 0.01
"""Of the focal length: so much skew may intrinsics have."""
FARTHEST = 1e7
"""Metres of a translation: 10,000 km, a quarter of the way around the earth."""


@lru_cache(maxsize=4096)
def check_step(step: RigidStep) -> None:
    """Refuse a step that is no rigid motion.

    Raises:
        ValueError: for numbers that are not finite, a quaternion that is not of length 1, a matrix that is no rotation, or a
            translation of more than 10,000 km.
    """
    numbers = (*step.rotation, *step.translation)
    if not all(map(isfinite, numbers)):
        raise ValueError("its pose has numbers that are not finite")
    if len(step.rotation) == 4:
        length = hypot(*step.rotation)
        if abs(length - 1) > UNIT:
            raise ValueError(
                f"the quaternion {_shown(step.rotation)} has length {length:.4g}, and a rotation's is 1"
            )
    else:
        _check_matrix(step.rotation)
    if hypot(*step.translation) > FARTHEST:
        raise ValueError(
            f"a translation of {_shown(step.translation)} m; more than {FARTHEST / 1e3:,.0f} km is none on earth"
        )


@lru_cache(maxsize=4096)
def check_intrinsics(intrinsics: tuple[float, ...], height: int, width: int) -> None:
    """Refuse intrinsics that are not those of a picture of this size.

    Args:
        intrinsics: 3 x 3, row by row, in pixels.
        height, width: pixels.

    Raises:
        ValueError: if they are not 9 finite numbers, are transposed, have a last row other than 0 0 1, a focal length that is
            not positive, skew, or a centre that is not in the picture.
    """
    if len(intrinsics) != 9 or not all(map(isfinite, intrinsics)):
        raise ValueError(f"intrinsics are 3 x 3 finite numbers, row by row, not {_shown(intrinsics)}")
    fx, skew, cx, low, fy, cy, *last = intrinsics
    said = f"intrinsics {_shown(intrinsics)}"
    if (cx, cy) == (0, 0) and last[:2] != [0, 0]:
        raise ValueError(
            f"{said} are transposed: the centre stands in the last row, and belongs into the last column"
        )
    if max(abs(last[0]), abs(last[1]), abs(last[2] - 1)) > 1e-6:
        raise ValueError(f"{said} have the last row {_shown(last)}, and that of a camera is 0 0 1")
    if fx <= 0 or fy <= 0:
        raise ValueError(f"{said} have the focal lengths {fx:g} and {fy:g}, which must be positive")
    if max(abs(skew), abs(low)) > SKEW * min(fx, fy):
        raise ValueError(f"{said} are sheared: their second and fourth number must be about 0")
    if not (0 <= cx <= width and 0 <= cy <= height):
        raise ValueError(
            f"{said} have their centre ({cx:g}, {cy:g}) outside the picture of {width} x {height} pixels: they are those of "
            f"another size, or row and column are exchanged"
        )


def _check_matrix(rotation: tuple[float, ...]) -> None:
    rows = [rotation[3 * row : 3 * row + 3] for row in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    off = max(
        abs(sum(x * y for x, y in zip(rows[first], rows[second], strict=True)) - (first == second))
        for first in range(3)
        for second in range(first, 3)
    )
    if off > ORTHOGONAL:
        raise ValueError(
            f"the matrix {_shown(rotation)} is no rotation: its rows are not of length 1 at right angles (off by {off:.2g})"
        )
    if determinant < 0:
        raise ValueError(
            f"the matrix {_shown(rotation)} mirrors (its determinant is {determinant:.3g}, and a rotation's is 1)"
        )


def _shown(numbers: object) -> str:
    values = list(numbers) if isinstance(numbers, list | tuple) else []
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

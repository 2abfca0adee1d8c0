"""What is known of a camera: the rigid steps to it, its pinhole, and which points count as seen. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class RigidStep:
    """One rigid motion on the way from the scan's frame to a camera's.

    Forward: rotate, then translate. Inverse: translate back, then rotate back.

    Attributes:
        rotation: quaternion w, x, y, z; or a 3 x 3 matrix row by row, where a dataset gives one (it is used as it is,
            rounding and all, so not with `inverse`). An array of either, or nested lists, are taken, too.
        translation: metres; likewise.

    Raises:
        ValueError: for other numbers of numbers. Whether they are a rotation is checked with the record that they are in.
    """

    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    inverse: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", plain_numbers(self.rotation))
        object.__setattr__(self, "translation", plain_numbers(self.translation))
        if len(self.rotation) != 4 and (len(self.rotation) != 9 or self.inverse):
            raise ValueError(f"a rotation has 4 numbers, or 9 going forward, not {len(self.rotation)}")
        if len(self.translation) != 3:
            raise ValueError(f"a translation has 3 numbers, not {len(self.translation)}")


def plain_numbers(values: Any) -> tuple[float, ...]:
    """Numbers of an array, of nested lists or of a tuple, row by row, as a tuple. A tuple of numbers stays as it is."""
    if type(values) is tuple and not any(
        isinstance(value, Sequence) or hasattr(value, "shape") for value in values
    ):
        return values
    import numpy as np

    return tuple(np.asarray(values, np.float64).ravel().tolist())


class Camera(Protocol):
    """A calibrated image, as records of images are.

    Attributes:
        height, width: pixels of the original image.
        intrinsics: 3 x 3, row by row, in pixels.
        steps: from the scan's frame to the camera's (x right, y down, z along the optical axis).
    """

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def intrinsics(self) -> tuple[float, ...]: ...

    @property
    def steps(self) -> tuple[RigidStep, ...]: ...


@dataclass(frozen=True)
class MaskRule:
    """Which points a camera sees: `along` > beyond, first < u < width - last, first < v < height - last.

    Attributes:
        beyond: metres.
        along: what `beyond` is measured along: `depth`, the camera's optical axis, or `x`, the scan's first axis.
        first: pixels left out at the left and the upper side.
        last: pixels left out at the right and the lower side.
        arithmetic: `float64`, or `float32` where the published code keeps points in float32 between the steps of
            the projection.
    """

    beyond: float
    along: Literal["depth", "x"]
    first: int
    last: int
    arithmetic: Literal["float64", "float32"]


STRICT = MaskRule(beyond=1.0, along="depth", first=1, last=1, arithmetic="float64")
"""One rule for all datasets; the border is that of the nuScenes devkit's `map_pointcloud_to_image`."""

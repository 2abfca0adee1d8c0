"""Where a point falls on WaffleIron's planes: field of view, planes, cells (ScaLR, supplement B.2).

All arithmetic is as published: cells are quantised in float64, the border test compares in the points' own
type. Numpy only, so that loader workers need no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.model import Points

PLANE_AXES = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
"""Axis that a plane drops -> the axes that it keeps; the first one is counted along the plane's height."""

BORDER = 1e-4
"""Metres that a point must keep from every side of the field of view."""


@dataclass(frozen=True)
class Plane:
    """One 2D grid: `axis` (0 x, 1 y, 2 z) is projected away, `shape` is (height, width) in cells."""

    axis: int
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.axis not in PLANE_AXES:
            raise ValueError(f"a plane drops axis 0, 1 or 2, not {self.axis}")
        if min(self.shape) < 1:
            raise ValueError(f"a plane needs at least one cell each way, not {self.shape}")

    @property
    def axes(self) -> tuple[int, int]:
        """The axes that the plane keeps, lower number first."""
        return PLANE_AXES[self.axis]


@dataclass(frozen=True)
class Grid:
    """A box-shaped field of view and the planes it is flattened onto, in the order the layers use them.

    The default is ScaLR's: x and y within 64 m, z within 8 m, cells of 0.5 m, planes (x, y), (x, z), (y, z).
    """

    low: tuple[float, float, float] = (-64.0, -64.0, -8.0)  # metres
    high: tuple[float, float, float] = (64.0, 64.0, 8.0)  # metres
    planes: tuple[Plane, ...] = (Plane(2, (256, 256)), Plane(1, (256, 32)), Plane(0, (256, 32)))

    def __post_init__(self) -> None:
        if not self.planes:
            raise ValueError("a grid needs at least one plane")
        for axis, low, high in zip("xyz", self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(f"the field of view is empty along {axis}: from {low} to {high} m")

    @classmethod
    def with_cells(
        cls, low: tuple[float, float, float], high: tuple[float, float, float], cell_size: float = 0.5
    ) -> Grid:
        """The three published planes over a field of view, with square cells of `cell_size` metres."""
        counts = []
        for axis, start, stop in zip("xyz", low, high, strict=True):
            cells = (stop - start) / cell_size
            if round(cells) < 1 or abs(cells - round(cells)) > 1e-6 * cells:
                raise ValueError(
                    f"cells of {cell_size} m do not fill the field of view along {axis}, from {start} to "
                    f"{stop} m: give plane shapes instead"
                )
            counts.append(round(cells))
        planes = tuple(
            Plane(axis, (counts[PLANE_AXES[axis][0]], counts[PLANE_AXES[axis][1]])) for axis in (2, 1, 0)
        )
        return cls(low, high, planes)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every plane, in cells."""
        return tuple(plane.shape for plane in self.planes)

    def inside(self, points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Which points lie strictly inside the field of view, `BORDER` away from each side.

        points: (N, 3 or more), x y z in metres. Returns (N,) bool. The comparison is made in the type of
        the points, float32 for most readers, as the published crop does.
        """
        keep = np.ones(len(points), dtype=np.bool_)  # (N,)
        for axis, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            keep &= points[:, axis] > low + BORDER
            keep &= points[:, axis] < high - BORDER
        return keep

    def cells(self, points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """The flat cell of every point on every plane, row-major: first kept axis times width plus second.

        points: (N, 3 or more), x y z in metres, all inside. Returns (N, planes) int64. Each index is
        trunc((p - low) / ((high - low) / cells)), in float64 whatever the type of the points.
        """
        outside = len(points) - int(self.inside(points).sum())
        if outside:
            raise ValueError(
                f"{outside} of {len(points)} points lie outside the field of view, {self.low} to "
                f"{self.high} m: keep those for which inside() is true"
            )
        flat = np.empty((len(self.planes), len(points)), dtype=np.int64)  # (planes, N)
        known: dict[tuple[int, int], npt.NDArray[np.int64]] = {}  # (axis, cells) -> (N,); planes share them
        for place, plane in enumerate(self.planes):
            for axis_and_cells in zip(plane.axes, plane.shape, strict=True):
                if axis_and_cells not in known:
                    known[axis_and_cells] = self._index(points, *axis_and_cells)
            first, second = (known[key] for key in zip(plane.axes, plane.shape, strict=True))
            np.multiply(first, plane.shape[1], out=flat[place])
            flat[place] += second
        return flat.T

    def _index(self, points: npt.NDArray[np.floating[Any]], axis: int, cells: int) -> npt.NDArray[np.int64]:
        """Index of each point among the `cells` along one axis. Returns (N,) int64."""
        size = (self.high[axis] - self.low[axis]) / cells  # metres
        at = points[:, axis].astype(np.float64)  # (N,)
        at -= self.low[axis]
        at /= size
        return at.astype(np.int64)


@lru_cache(maxsize=8)
def plane_grid_of(points: Points) -> Grid:
    """The student's planes over the configured field of view."""
    (x, y, z), cell = points.field_of_view, points.cell
    return Grid.with_cells((x[0], y[0], z[0]), (x[1], y[1], z[1]), cell)

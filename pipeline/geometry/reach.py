"""Which neighbours a crop can remove: where a cloud reaches beyond the field of view once it is turned and scaled."""

from __future__ import annotations

from math import hypot

import numpy as np

from pipeline.geometry.neighbours import nearest_others

LEAST, MOST = 0.9, 1.1
"""Factors of scale that are expected, as published. Others make a loader search more often, nothing else."""

FieldOfView = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def with_spares(
    xyz: np.ndarray, count: int, spares: int, field_of_view: FieldOfView
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest others of all points (N, 3), and more of them where a crop can remove some.

    Returns:
        neighbours: (N, count) uint32, as `nearest_others` gives them.
        spare_of: (S,) uint32, ascending: the points that have spares.
        spares: (S, spares) uint32: the next nearest others of these.
    """
    near = nearest_others(xyz, count)
    removed, kept = _outside(xyz, field_of_view)
    rows = np.flatnonzero(removed[near].any(axis=1) & kept)
    if not spares or not len(rows):
        return near, np.empty(0, np.uint32), np.empty((0, spares), np.uint32)
    more = nearest_others(xyz, count + spares, rows)
    near[rows] = more[:, :count]  # from one search, so that points at the same distance are there once
    return near, rows.astype(np.uint32), more[:, count:]


def _outside(xyz: np.ndarray, field_of_view: FieldOfView) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool each: points that some turn about z and some scale carry out of the field, and that some leave in it."""
    sides, (low, high) = field_of_view[:2], field_of_view[2]
    far = np.hypot(xyz[:, 0], xyz[:, 1])
    small, large = np.sort(xyz[:, 2] * np.array([[LEAST], [MOST]], xyz.dtype), axis=0)
    nearest_side = min(abs(end) for side in sides for end in side)
    furthest_corner = hypot(*(max(abs(end) for end in side) for side in sides))
    removed = (far * MOST > nearest_side) | (large > high) | (small < low)
    kept = (far * LEAST < furthest_corner) & (small < high) & (large > low)
    return removed, kept

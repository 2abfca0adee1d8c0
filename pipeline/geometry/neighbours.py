"""The nearest other points of each point, and spare ones for the neighbours that a crop can remove.

A crop keeps a field of view. A cloud may reach beyond it once it is turned about z and scaled.
"""

from __future__ import annotations

from math import hypot

import numpy as np
from scipy.spatial import cKDTree

LEAST, MOST = 0.9, 1.1
"""Factors of scale that are expected, as published. Other factors only make a loader search more often."""

FieldOfView = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def nearest_others(xyz: np.ndarray, count: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Rows (M, count) uint32 of the `count` nearest other points, nearest first, of all points or of `rows`.

    Where a cloud has fewer others, the point itself fills the row's end.

    Args:
        xyz: (N, 3) float32, metres.
    """
    asked = np.arange(len(xyz)) if rows is None else rows
    near = np.repeat(asked[:, None], count, axis=1)
    available = min(count, len(xyz) - 1)
    if available > 0 and len(asked):
        # For a few rows, building the tree is most of the work: one that is not balanced is built in half the time.
        tree = cKDTree(xyz) if rows is None else cKDTree(xyz, 32, compact_nodes=False, balanced_tree=False)
        _, rows_near = tree.query(xyz[asked], k=available + 1)
        itself = rows_near == asked[:, None]
        # Among points at one place the point itself need not come first, or at all: then the last one goes.
        itself[~itself.any(axis=1), -1] = True
        near[:, :available] = rows_near[~itself].reshape(len(asked), available)
    return near.astype(np.uint32)


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
    """(N,) bool each: points that some turn about z and some scale carry out of the field; and that some leave in it."""
    sides, (low, high) = field_of_view[:2], field_of_view[2]
    far = np.hypot(xyz[:, 0], xyz[:, 1])
    small, large = np.sort(xyz[:, 2] * np.array([[LEAST], [MOST]], xyz.dtype), axis=0)
    nearest_side = min(abs(end) for side in sides for end in side)
    furthest_corner = hypot(*(max(abs(end) for end in side) for side in sides))
    removed = (far * MOST > nearest_side) | (large > high) | (small < low)
    kept = (far * LEAST < furthest_corner) & (small < high) & (large > low)
    return removed, kept

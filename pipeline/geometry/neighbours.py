"""The nearest other points of each point."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def nearest_others(xyz: np.ndarray, count: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Rows (M, count) uint32 of the `count` nearest other points, nearest first, of all points or of `rows`.

    Where a cloud has fewer others, the point itself fills the row's end.

    Args:
        xyz: (N, 3) float32, metres.
    """
    asked = np.arange(len(xyz)) if rows is None else rows
    found = np.repeat(asked[:, None], count, axis=1)
    available = min(count, len(xyz) - 1)
    if available > 0 and len(asked):
        # For a few rows, building the tree is most of the work: one that is not balanced is built in half the time.
        tree = cKDTree(xyz) if rows is None else cKDTree(xyz, 32, compact_nodes=False, balanced_tree=False)
        _, near = tree.query(xyz[asked], k=available + 1)
        itself = near == asked[:, None]
        # Among points at one place the point itself need not come first, or at all: then the last one goes.
        itself[~itself.any(axis=1), -1] = True
        found[:, :available] = near[~itself].reshape(len(asked), available)
    return found.astype(np.uint32)

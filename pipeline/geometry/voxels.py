"""One point per occupied voxel."""

from __future__ import annotations

from math import prod

import numpy as np


def representatives(xyz: np.ndarray, voxel: float, rng: np.random.Generator | None) -> np.ndarray:
    """Rows (V,) int64 of `xyz` (N, 3) float32, one for each occupied voxel, in the voxels' lexicographic order.

    With `rng` the point is drawn at random, as ScaLR does in training; without, it is the first in file order, as
    it does in validation. As published, voxels are counted from the smallest coordinate, in float32.
    """
    if not len(xyz):
        return np.empty(0, np.int64)
    order = np.arange(len(xyz)) if rng is None else rng.permutation(len(xyz))
    shifted = xyz[order] - xyz.min(axis=0, keepdims=True)
    cell = (shifted / np.float32(voxel)).astype(np.int64)
    sides = cell.max(axis=0) + 1
    if prod(map(int, sides)) < 2**63:
        # One integer per voxel sorts as the triple does, and many times faster.
        key = (cell[:, 0] * sides[1] + cell[:, 1]) * sides[2] + cell[:, 2]
        _, first = np.unique(key, return_index=True)
    else:
        _, first = np.unique(cell, return_index=True, axis=0)
    return order[first]

"""One point per occupied voxel."""

from __future__ import annotations

from math import prod

import numpy as np


def representatives(xyz: np.ndarray, voxel: float, rng: np.random.Generator | None) -> np.ndarray:
    """Rows (V,) int64 of `xyz` (N, 3) float32 or float64, one for each occupied voxel, in the voxels' lexicographic order.

    With `rng` the point is drawn at random, as ScaLR does in training; without, it is the first in file order, as
    it does in validation. As published, voxels are counted from the smallest coordinate, in the arithmetic of `xyz`.
    """
    if not len(xyz):
        return np.empty(0, np.int64)
    cell = np.array(xyz.T, order="C")  # (3, N)
    cell -= cell.min(axis=1, keepdims=True)
    cell /= cell.dtype.type(voxel)
    cell = cell.astype(np.int64)
    order = None if rng is None else rng.permutation(len(xyz))
    sides = [int(side) for side in cell.max(axis=1) + 1]
    bits = len(xyz).bit_length()
    if prod(sides) < 2 ** (63 - bits):
        # One integer holds a point's voxel and, below it, the point's place: sorting these is several times faster
        # than finding unique triples, and keeps the same points.
        key = (cell[0] * sides[1] + cell[1]) * sides[2] + cell[2]
        if order is not None:
            key = key.take(order)
        key <<= bits
        key += np.arange(len(key))
        key.sort()
        voxels = key >> bits
        new = np.empty(len(key), np.bool_)
        new[0] = True
        np.not_equal(voxels[1:], voxels[:-1], out=new[1:])
        first = key[new] & ((1 << bits) - 1)
    else:
        rows = cell.T if order is None else cell.T[order]
        first = np.unique(rows, return_index=True, axis=0)[1]
    return first if order is None else order[first]

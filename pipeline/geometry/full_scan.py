"""A whole scan as it is scored: one kept point per voxel, its neighbours, and for every point the nearest kept one.

Source: validation in ScaLR's released datasets/pc_dataset.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from cache_schemas.errors import BadInput
from cache_schemas.full_scans import FULL_SCANS
from pipeline.config.model import Points
from pipeline.geometry.grid import Grid
from pipeline.geometry.neighbours import nearest_others
from pipeline.geometry.voxels import representatives


@dataclass(frozen=True)
class FullScan:
    """Which of the N points of a scan are kept, and whose class each point takes.

    Attributes:
        kept: (R,) integers, rows of the scan, in voxel order.
        neighbours: (R, K) integers, rows of these R: the K nearest others, nearest first.
        nearest: (N,) integers, of these R the one nearest to each point.
    """

    kept: np.ndarray
    neighbours: np.ndarray
    nearest: np.ndarray


def full_scan(xyz: np.ndarray, points: Points) -> FullScan:
    """The first point of each voxel in file order, where it lies in the field of view; and for every point (N, 3), inside
    the field or not, the nearest of these.

    Raises:
        BadInput: if there is none.
    """
    low, high = zip(*points.field_of_view, strict=True)
    kept = representatives(xyz, points.voxel, None)
    kept = kept[Grid(low, high).inside(xyz[kept])]
    if not len(kept):
        raise BadInput(
            f"none of {len(xyz)} points lies in points.field_of_view {points.field_of_view}; write a wider one"
        )
    near = cKDTree(xyz[kept]).query(xyz)[1]
    return FullScan(
        FULL_SCANS.array("kept").fitted(kept),
        FULL_SCANS.array("neighbours").fitted(nearest_others(xyz[kept], points.neighbours)),
        FULL_SCANS.array("nearest").fitted(near),
    )

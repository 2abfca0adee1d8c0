"""Batches for `benchmarks/exactness.py`: what the cameras of a real keyframe see, and clouds that are odd."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.spatial import cKDTree

from pipeline.datasets.nuscenes.reader import READER
from pipeline.geometry.grid import Grid
from pipeline.geometry.projection import see
from pipeline.geometry.voxels import representatives
from pipeline.streaming.augment import point_features
from pipeline.students.packed import Cloud, PackedClouds, pack

GRID = Grid()
COARSE = Grid.with_cells(GRID.low, GRID.high, 2.0)
"""For clouds that are odd rather than real: planes of 64 x 64, 64 x 8 and 64 x 8 cells, which take their code seconds."""
ONE_CELL = ((1, 1), (1, 1), (1, 1))
NEIGHBOURS = 16


def real_batches() -> dict[str, PackedClouds]:
    """Batches of what the cameras of the first keyframe in $GRIDDLE_SAMPLES see."""
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException("set GRIDDLE_SAMPLES to the folder that holds nuscenes/")
    root = Path(samples) / "nuscenes"
    partition: Any = next(READER.partitions(root, "v1.0-trainval"))
    scan = partition.scans[0]
    xyz, intensity = READER.read_points(root, scan)
    rows = representatives(xyz, 0.1, None)
    xyz, intensity = xyz[rows], intensity[rows]
    views = [see(xyz, image, READER.traits.published_mask).point for image in scan.images]
    views = [seen[GRID.inside(xyz[seen])] for seen in views]
    rng = np.random.default_rng(0)

    def around(number: int, points: int, grid: Grid = GRID) -> Cloud:
        """The points that a camera sees next to one of them."""
        seen = views[number % len(views)]
        near = seen[np.argsort(np.abs(xyz[seen] - xyz[seen[number]]).max(1))[:points]]
        return cloud(xyz[near], intensity[near], grid)

    equal = [around(number, 1200) for number in range(3)]
    border = [at_the_border(xyz[seen[:900]], intensity[seen[:900]], rng) for seen in views[:2]]
    crowded = (xyz[views[0][:200]] / 200 + 0.25).astype(np.float32)
    alone = cloud(xyz[views[0][:1]], intensity[views[0][:1]], COARSE)
    one_cell = pack([around(0, 400), around(1, 1200)])
    return {
        "1 camera": pack([cloud(xyz[views[0]], intensity[views[0]], GRID)]),
        "3 unequal": pack([around(0, 700), around(1, 1900), around(2, 1200)]),
        "3 equal": pack(equal),
        "2 unequal": pack([around(0, 700), around(1, 1900)]),
        "2 equal": pack(equal[:2]),
        "1 small": pack([around(0, 500)]),
        "3 small unequal": pack([around(0, 150), around(1, 400), around(2, 250)]),
        "3 small equal": pack([around(number, 250) for number in range(3)]),
        "2 small unequal": pack([around(0, 100), around(1, 250)]),
        "2 small equal": pack([around(number, 150) for number in range(2)]),
        "9 unequal": pack([around(number, 200 + 150 * number, COARSE) for number in range(9)]),
        "3 at the border": pack([*border, around(2, 1200, COARSE)]),
        "all in one cell": pack([cloud(crowded, intensity[views[0][:200]], COARSE), around(1, 700, COARSE)]),
        "planes of one cell": replace(one_cell, cells=torch.zeros_like(one_cell.cells)),
        "one point": pack([alone]),
        "one point of many": pack([alone, around(0, 1200, COARSE)]),
    }


def at_the_border(xyz: np.ndarray, intensity: np.ndarray, rng: np.random.Generator) -> Cloud:
    """A third of the points moved into the outermost cells of the field of view, its corners among them."""
    moved = xyz.copy()
    low, high = np.array(GRID.low) + 2e-4, np.array(GRID.high) - 2e-4
    third = len(xyz) // 3
    side = rng.integers(0, 2, (third, 3)).astype(bool)
    onto = rng.random((third, 3)) < 0.6
    onto[:8] = True
    moved[:third] = np.where(onto, np.where(side, high, low), moved[:third])
    return cloud(moved.astype(np.float32), intensity, COARSE)


def cloud(xyz: np.ndarray, intensity: np.ndarray, grid: Grid) -> Cloud:
    count = min(NEIGHBOURS + 1, len(xyz))
    near = cKDTree(xyz).query(xyz, [*range(2, count + 1)])[1] if count > 1 else np.empty((1, 0), np.int64)
    near = np.concatenate((near, np.repeat(np.arange(len(xyz))[:, None], NEIGHBOURS + 1 - count, 1)), 1)
    return Cloud(point_features(intensity, xyz, READER.traits.intensity), near, grid.cells(xyz))

"""Small clouds that are odd: empty, of one point, on borders and corners, all in one cell, in no order.

The tests of the student's backends take them, and so does `sections/correct.py` on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.students.packed import Cloud

Shapes = Sequence[tuple[int, int]]

SHAPES = ((6, 5), (6, 3), (5, 3))
"""Of the planes, in cells."""
NEIGHBOURS = 5


def cloud_at(cells: np.ndarray, seed: int = 0) -> Cloud:
    """A cloud whose points lie in the given cells (N, 3), with random features and neighbours."""
    rng, points = np.random.default_rng(seed), len(cells)
    return Cloud(
        features=rng.normal(size=(points, 5)).astype(np.float32),
        neighbours=rng.integers(0, max(points, 1), (points, NEIGHBOURS)),
        cells=cells,
    )


def scattered(points: int, seed: int, shapes: Shapes = SHAPES) -> Cloud:
    """Points anywhere on the planes, some cells shared, in no order."""
    rng = np.random.default_rng(seed)
    return cloud_at(np.stack([rng.integers(0, h * w, points) for h, w in shapes], axis=1), seed)


def on_borders() -> Cloud:
    """Points in the four corners and along all four sides of each plane, none inside."""
    columns = []
    for height, width in SHAPES:
        flat = np.arange(height * width)
        y, x = flat // width, flat % width
        columns.append(np.resize(flat[(y % (height - 1) == 0) | (x % (width - 1) == 0)], 40))
    return cloud_at(np.stack(columns, axis=1))


def full() -> Cloud:
    """Every cell of every plane occupied."""
    return cloud_at(np.stack([np.resize(np.arange(h * w), 30) for h, w in SHAPES], axis=1))


def in_one_cell() -> Cloud:
    return cloud_at(np.full((9, 3), 7))


def backwards() -> Cloud:
    """Points whose cells fall from the last one of each plane to its first: no sorting leaves them where they are."""
    return cloud_at(
        np.stack([np.arange(h * w)[::-1][np.arange(40) * h * w // 40] for h, w in SHAPES], axis=1)
    )


CASES: dict[str, Callable[[], list[Cloud]]] = {
    "equal": lambda: [scattered(12, 0), scattered(12, 1), scattered(12, 2)],
    "unequal": lambda: [scattered(25, 0), scattered(3, 1), scattered(12, 2)],
    "one cloud": lambda: [scattered(10, 0)],
    "empty clouds": lambda: [
        scattered(0, 0),
        scattered(11, 1),
        scattered(0, 2),
        scattered(6, 3),
        scattered(0, 4),
    ],
    "one point beside others": lambda: [scattered(1, 0), scattered(9, 1), scattered(1, 2)],
    "borders and corners": lambda: [on_borders(), scattered(5, 1), on_borders()],
    "last cell, then first": lambda: [
        cloud_at(np.array([[29, 17, 14]])),
        cloud_at(np.array([[0, 0, 0]] * 2)),
    ],
    "full planes": lambda: [full(), scattered(4, 0), full()],
    "all in one cell": lambda: [in_one_cell(), in_one_cell()],
    "backwards": lambda: [backwards(), scattered(5, 1)],
}
"""Batches of at least two points, as a batch norm in training wants them."""

FEW: dict[str, Callable[[], list[Cloud]]] = {
    "one point": lambda: [scattered(1, 0)],
    "none": lambda: [scattered(0, 0)],
}
"""Batches for evaluation alone."""

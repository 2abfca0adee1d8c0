"""One training sample: a view's points limited, augmented and cropped, with neighbours, cells and grid coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.model import Augment, Points, Teacher
from pipeline.geometry.grid import plane_grid_of
from pipeline.geometry.neighbours import nearest_others
from pipeline.streaming.augment import augment, point_features
from pipeline.streaming.grids import coordinates_in
from pipeline.streaming.view_source import ViewPoints
from pipeline.students.packed import Cloud
from pipeline.teachers.sampling import Sampling


@dataclass(frozen=True)
class Sample:
    """The part of a batch that comes from one scan: what one of its cameras sees, or what all of them see.

    Attributes:
        cloud: the student's input, n points, camera by camera.
        coordinates: of each camera, for each teacher, where the camera's points lie in its patch grid, (m, 2) float64
            (column, row).
        sizes: the number of points of each camera; it may be 0.
    """

    cloud: Cloud
    coordinates: tuple[tuple[np.ndarray, ...], ...]
    sizes: tuple[int, ...]


def make_sample(
    view: ViewPoints,
    *,
    points: Points,
    augmentation: Augment,
    intensity: tuple[float, float],
    teachers: Sequence[Teacher],
    sampling: Sampling,
    rng: np.random.Generator,
) -> Sample:
    """In the published order (datasets/im_pc_dataset.py): limit, augment, crop, then features and cells.

    Features are of the augmented points: intensity normalised by its mean and deviation, x, y, z and range in metres.
    """
    plane_grid = plane_grid_of(points)
    rows = nearest_to_one(view.xyz, points.max_points, rng)
    xyz = augment(view.xyz.take(rows, axis=0), augmentation, rng)
    inside = np.flatnonzero(plane_grid.inside(xyz))
    rows, xyz = rows[inside], xyz.T.take(inside, axis=1).T  # still axis by axis in memory
    return Sample(
        cloud=Cloud(
            features=point_features(view.intensity[rows], xyz, intensity),
            neighbours=neighbours_of(xyz, rows, view, points.neighbours),
            cells=plane_grid.cells(xyz),
        ),
        coordinates=(
            coordinates_in(
                view.grids,
                view.pixel.take(rows, axis=0),
                original=view.original,
                teachers=teachers,
                sampling=sampling,
            ),
        ),
        sizes=(len(rows),),
    )


def nearest_to_one(xyz: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """The rows, ascending, of the `most` points nearest to a random one of them; all rows if there are no more."""
    if len(xyz) <= most:
        return np.arange(len(xyz))
    centre = xyz[int(rng.integers(len(xyz)))]
    x, y, z = np.square(xyz - centre).T
    distance = x + y + z
    limit = np.partition(distance, most - 1)[most - 1]
    near = distance < limit
    near[np.flatnonzero(distance == limit)[: most - np.count_nonzero(near)]] = True
    return np.flatnonzero(near)


def neighbours_of(xyz: np.ndarray, rows: np.ndarray, view: ViewPoints, count: int) -> np.ndarray:
    """For each of the points that are left its `count` nearest others, (n, count) integers.

    Rotations, flips and one factor of scale keep the order of distances, so that the stored neighbours stay right.
    Neighbours that a crop removed are replaced by the stored spares. Only rows with too few spares are searched anew.
    """
    stored = view.neighbours.take(rows, axis=0)
    if len(rows) == len(view.xyz):
        return stored
    place = np.full(len(view.xyz), -1, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    nearest = place.take(stored, mode="wrap")  # all are in range; `wrap` is the fastest way
    lost = np.flatnonzero(nearest < 0)
    if len(lost):
        flags = np.zeros(len(rows), np.bool_)
        flags[lost // count] = True
        incomplete = np.flatnonzero(flags)  # few rows lose any neighbour: only these are looked at
        nearest[incomplete] = _without_lost(xyz, rows[incomplete], view, place, count, incomplete)
    return nearest


def _without_lost(
    xyz: np.ndarray,
    rows: np.ndarray,
    view: ViewPoints,
    place: np.ndarray,
    count: int,
    incomplete: np.ndarray,
) -> np.ndarray:
    """Neighbours (h, count) of the rows of `xyz` that lost some: their spares take the place of these; where the spares
    are too few, all others are searched.

    Args:
        rows: (h,) the incomplete rows, counted within the view.
        place: of each of the view's points its row in `xyz`, or -1 where it is cropped.
        incomplete: (h,) the same rows, counted within `xyz`.
    """
    listed = np.empty((len(rows), count + view.spares.shape[1]), np.int64)
    listed[:, :count] = view.neighbours.take(rows, axis=0)
    # A point without spares is listed as its own: that is padding, as in short clouds, and not taken for a neighbour.
    listed[:, count:] = rows[:, None]
    if len(view.spare_of):
        nearest_entry = np.searchsorted(view.spare_of, rows).clip(max=len(view.spare_of) - 1)
        with_spares = np.flatnonzero(view.spare_of[nearest_entry] == rows)
        listed[with_spares, count:] = view.spares.take(nearest_entry[with_spares], axis=0)
    candidates = place.take(listed)
    is_usable = (candidates >= 0) & (listed != rows[:, None])
    usable_first = np.argsort(~is_usable, axis=1, kind="stable")[:, :count]
    nearest = np.take_along_axis(candidates, usable_first, axis=1)
    too_few = np.flatnonzero(np.count_nonzero(is_usable, axis=1) < count)
    if len(too_few):
        nearest[too_few] = nearest_others(xyz, count, incomplete[too_few])
    return nearest

"""A sample of all cameras of a scan: the union of what they see (ScaLR, table 1: six cameras instead of one).

A point that several cameras see is in the sample once: one of these cameras is drawn for it. Points are sorted by camera,
so that each camera's patch grid belongs to a run of rows. Neighbours are searched here, because stored neighbours are those
within one view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config.model import Augment, Points, Teacher
from pipeline.geometry.grid import plane_grid_of
from pipeline.geometry.neighbours import nearest_others
from pipeline.streaming.augment import augment, point_features
from pipeline.streaming.grids import coordinates_in
from pipeline.streaming.view_sample import Sample, nearest_to_one
from pipeline.streaming.view_source import ViewPoints
from pipeline.students.packed import Cloud
from pipeline.teachers.sampling import Sampling


def make_union_sample(
    views: Sequence[ViewPoints],
    *,
    points: Points,
    augmentation: Augment,
    intensity: tuple[float, float],
    teachers: Sequence[Teacher],
    sampling: Sampling,
    rng: np.random.Generator,
) -> Sample:
    """The same steps as for one camera: limit, augment, crop, then features, neighbours and cells."""
    camera, place = one_camera_each(views, rng)
    plane_grid = plane_grid_of(points)
    xyz = np.concatenate([view.xyz for view in views])[place]
    rows = nearest_to_one(xyz, points.max_points, rng)
    xyz = augment(xyz.take(rows, axis=0), augmentation, rng)
    inside = np.flatnonzero(plane_grid.inside(xyz))
    rows, xyz = rows[inside], xyz.T.take(inside, axis=1).T
    place, camera = place[rows], camera[rows]  # still camera by camera: `nearest_to_one` keeps the order
    sizes = np.bincount(camera, minlength=len(views))
    pixel = np.split(np.concatenate([view.pixel for view in views])[place], np.cumsum(sizes)[:-1])
    return Sample(
        cloud=Cloud(
            features=point_features(
                np.concatenate([view.intensity for view in views])[place], xyz, intensity
            ),
            neighbours=nearest_others(xyz, points.neighbours),
            cells=plane_grid.cells(xyz),
        ),
        coordinates=tuple(
            coordinates_in(view.grids, pixels, original=view.original, teachers=teachers, sampling=sampling)
            for view, pixels in zip(views, pixel, strict=True)
        ),
        sizes=tuple(int(size) for size in sizes),
    )


def one_camera_each(views: Sequence[ViewPoints], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For each point that any view sees, once: the camera drawn for it, and its row in the concatenated views.

    Both are (n,) int64, sorted by camera, and within a camera in the view's order.
    """
    point = np.concatenate([view.point for view in views]).astype(np.int64)
    camera = np.repeat(np.arange(len(views)), [len(view.point) for view in views])
    shuffled = rng.permutation(len(point))
    _, first = np.unique(point[shuffled], return_index=True)
    place = np.sort(shuffled[first])
    return camera[place], place

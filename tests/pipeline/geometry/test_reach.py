"""Spares: for exactly the points that need them in some crop, and the next neighbours after the stored ones."""

import numpy as np
import pytest

from pipeline.common.random import generator
from pipeline.config.model import Augment, Points
from pipeline.geometry.grid import plane_grid_of
from pipeline.geometry.neighbours import FieldOfView, nearest_others, with_spares
from pipeline.streaming.augment import augment

FIELDS: list[FieldOfView] = [
    ((-8.0, 8.0), (-8.0, 8.0), (-4.0, 4.0)),
    ((-8.0, 16.0), (-16.0, 8.0), (-1.0, 4.0)),
    ((0.0, 16.0), (-8.0, 8.0), (-4.0, 4.0)),
]


def cloud(points: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(points, 3)) * (5, 5, 2)).astype(np.float32)


@pytest.mark.parametrize("field", FIELDS)
def test_who_has_no_spares_loses_no_neighbour_in_any_crop(field: FieldOfView) -> None:
    xyz = cloud()
    near, spare_of, _ = with_spares(xyz, 4, 8, field)
    grid = plane_grid_of(Points(field_of_view=field))
    hit = np.zeros(len(xyz), bool)
    for key in range(300):
        inside = grid.inside(augment(xyz, Augment(), generator(key)))
        hit |= inside & ~inside[near].all(axis=1)
    needed = np.flatnonzero(hit)
    assert set(needed.tolist()) <= set(spare_of.tolist())
    assert len(needed) > 50


def test_not_everyone_has_spares() -> None:
    _, spare_of, spares = with_spares(cloud(), 4, 8, FIELDS[0])
    assert 100 < len(spare_of) < 500
    assert spares.shape == (len(spare_of), 8)
    assert (np.diff(spare_of.astype(int)) > 0).all()
    _, none, _ = with_spares(cloud() / 10, 4, 8, FIELDS[0])
    assert len(none) == 0


def test_spares_go_on_where_the_neighbours_end() -> None:
    """Points at equal distances, too: twice the same cloud, so that each neighbour is there twice."""
    xyz = np.concatenate([cloud(200), cloud(200)])
    near, spare_of, spares = with_spares(xyz, 4, 8, FIELDS[0])
    whole = np.concatenate([near[spare_of], spares], axis=1)
    assert all(len(set(row)) == 12 for row in whole.tolist())
    assert not (whole == spare_of[:, None]).any()
    distance = np.linalg.norm(xyz[:, None].astype(float) - xyz[None].astype(float), axis=2)
    found = np.take_along_axis(distance[spare_of], whole.astype(int), axis=1)
    expected = np.sort(distance, axis=1)[spare_of][:, 1:13]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("points", [0, 1, 3, 6])
def test_small_clouds_repeat_the_point_itself(points: int) -> None:
    xyz = cloud(points) * 4
    near, spare_of, spares = with_spares(xyz, 4, 4, FIELDS[0])
    np.testing.assert_array_equal(near, nearest_others(xyz, 4))
    missing = max(0, 8 - (points - 1))
    for row, of in zip(spares.tolist(), spare_of.tolist(), strict=True):
        assert row[4 - min(4, missing) :] == [of] * min(4, missing)


def test_without_spares_there_are_none() -> None:
    near, spare_of, spares = with_spares(cloud(), 4, 0, FIELDS[0])
    np.testing.assert_array_equal(near, nearest_others(cloud(), 4))
    assert len(spare_of) == 0
    assert spares.shape == (0, 0)

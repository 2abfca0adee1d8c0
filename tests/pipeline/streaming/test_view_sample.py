"""One sample: limited, augmented and cropped points, whose neighbours are those that brute force finds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.common.random import generator
from pipeline.config.model import Augment, Points, Teacher
from pipeline.geometry.neighbours import nearest_others
from pipeline.streaming.augment import augment
from pipeline.streaming.grids import PatchGrid
from pipeline.streaming.view_sample import Sample, make_sample, nearest_to_one
from pipeline.streaming.view_source import ViewPoints

STILL = Augment(rotate=False, flip=False, scale=0.0)
POINTS = Points(
    neighbours=4, spares=2, field_of_view=((-8.0, 8.0), (-8.0, 8.0), (-4.0, 4.0)), cell=0.5, max_points=10_000
)
INTENSITY = (10.0, 4.0)


def view_of(points: int, seed: int = 0, spread: float = 4.0, stored: int = 6) -> ViewPoints:
    rng = np.random.default_rng(seed)
    xyz = (rng.normal(size=(points, 3)) * (spread, spread, spread / 2)).astype(np.float32)
    return ViewPoints(
        xyz=xyz,
        intensity=rng.uniform(0, 255, points).astype(np.float32),
        pixel=(rng.uniform(0, 1, (points, 2)) * (1600, 900)).astype(np.float32),
        **stored_neighbours(xyz, stored),
        original=(1600, 900),
        grids=(PatchGrid(rng.normal(size=(2, 4, 3)).astype(np.float16), None),),
        point=np.arange(points, dtype=np.uint32),
    )


def stored_neighbours(xyz: np.ndarray, stored: int = 6) -> dict[str, Any]:
    """Four neighbours of every point, and more of every second one, so that with and without is tried."""
    near = nearest_others(xyz, stored)
    some = np.arange(0, len(xyz), 2)
    return {"neighbours": near[:, :4], "spare_of": some.astype(np.uint16), "spares": near[some, 4:]}


def sample_of(
    view: ViewPoints, points: Points = POINTS, augmentation: Augment = STILL, key: Any = 0
) -> Sample:
    return make_sample(
        view,
        points=points,
        augmentation=augmentation,
        intensity=INTENSITY,
        teachers=(Teacher(model="t", image_size=(28, 56)),),
        sampling="published",
        rng=generator(key),
    )


def kept_rows(sample: Sample, view: ViewPoints) -> np.ndarray:
    """The rows of the view that the sample's points are: intensities are all different."""
    raw = sample.cloud.features[:, 0] * INTENSITY[1] + INTENSITY[0]
    distance = np.abs(raw[:, None] - view.intensity[None])
    assert distance.min(1).max(initial=0) < 1e-3
    return distance.argmin(1)


def check_neighbours(sample: Sample, count: int) -> None:
    """At the distances of the nearest others among the sample's own points; itself where there are no more."""
    xyz = sample.cloud.features[:, 1:4].astype(np.float64)
    found = sample.cloud.neighbours
    assert found.shape == (len(xyz), count)
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    others = min(count, len(xyz) - 1)
    nearest = np.sort(distance, axis=1)[:, :others]
    itself = np.arange(len(xyz))[:, None]
    assert not (found[:, :others] == itself).any()
    assert (found[:, others:] == itself).all()
    assert all(len(set(row)) == others for row in found[:, :others].tolist())
    mine = np.take_along_axis(distance, found[:, :others].astype(np.int64), axis=1)
    np.testing.assert_allclose(mine, nearest, rtol=1e-5)


def test_neighbours_of_all_points_are_the_stored_ones() -> None:
    view = view_of(300, spread=1.0)
    sample = sample_of(view)
    assert len(sample.cloud.features) == 300
    np.testing.assert_array_equal(sample.cloud.neighbours, view.neighbours[:, :4])
    check_neighbours(sample, 4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("augmentation", [STILL, Augment()], ids=["still", "augmented"])
def test_neighbours_after_a_crop_are_those_of_brute_force(seed: int, augmentation: Augment) -> None:
    view = view_of(400, seed, spread=6.0)
    sample = sample_of(view, augmentation=augmentation, key=seed)
    assert 50 < len(sample.cloud.features) < 350
    check_neighbours(sample, 4)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_after_a_limit_are_those_of_brute_force(seed: int) -> None:
    view = view_of(400, seed)
    sample = sample_of(view, POINTS.model_copy(update={"max_points": 60}), Augment(), key=seed)
    assert len(sample.cloud.features) <= 60
    check_neighbours(sample, 4)


def test_rows_that_run_out_of_spares_are_searched_again() -> None:
    """A tight cluster outside and a few points inside: all that the inner ones have stored is cropped."""
    rng = np.random.default_rng(0)
    outside = rng.normal(size=(40, 3)) * 0.05 + (8.1, 0, 0)
    inside = np.array([[7.6, 0, 0], [7.5, 0.3, 0], [7.7, -0.4, 0], [2, 2, 0], [-3, 1, 1], [-5, -5, 0]])
    xyz = np.concatenate([outside, inside]).astype(np.float32)
    view = replace(view_of(46), xyz=xyz, **stored_neighbours(xyz))
    lost = (view.neighbours[40:43] < 40).sum(1)
    assert (lost > 2).all()  # more than there are spares
    sample = sample_of(view)
    assert set(range(40, 46)) <= set(kept_rows(sample, view))
    check_neighbours(sample, 4)


@pytest.mark.parametrize("left", [1, 2, 4, 5])
def test_too_few_points_repeat_themselves(left: int) -> None:
    """Both where the view has so few, and where a crop leaves so few."""
    few = view_of(left, spread=1.0)
    check_neighbours(sample_of(few), 4)
    many = view_of(60, spread=1.0)
    far = many.xyz.copy()
    far[left:, 2] += 50
    cropped = replace(many, xyz=far, **stored_neighbours(far))
    sample = sample_of(cropped)
    assert len(sample.cloud.features) == left
    check_neighbours(sample, 4)


def test_a_crop_that_leaves_nothing_gives_an_empty_cloud() -> None:
    view = view_of(20)
    sample = sample_of(replace(view, xyz=view.xyz + np.float32(100)))
    assert sample.cloud.features.shape == (0, 5)
    assert sample.cloud.neighbours.shape == (0, 4)
    assert sample.coordinates[0][0].shape == (0, 2)


def test_columns_of_the_features() -> None:
    view = view_of(200, spread=1.0)
    features = sample_of(view).cloud.features
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, 0], (view.intensity - 10) / 4, rtol=1e-6)
    np.testing.assert_array_equal(features[:, 1:4], view.xyz)
    np.testing.assert_allclose(features[:, 4], np.sqrt((view.xyz.astype(float) ** 2).sum(1)), rtol=1e-6)


def test_features_cells_and_coordinates_belong_to_the_same_points() -> None:
    view = view_of(400, spread=6.0)
    sample = sample_of(view, POINTS.model_copy(update={"max_points": 300}), Augment(), key=3)
    rows = kept_rows(sample, view)
    assert len(set(rows)) == len(rows) < 300
    scaled = sample.cloud.features[:, 4] / np.linalg.norm(view.xyz[rows], axis=1)
    assert np.ptp(scaled) < 1e-5
    # Coordinates: floor to the original pixel, to the image's pixel, then along the aligned grid.
    original, image, grid = np.array([1600, 900]), np.array([56, 28]), np.array([4, 2])
    at = np.floor(np.floor(view.pixel[rows].astype(np.float64)) * (image / original))
    np.testing.assert_allclose(sample.coordinates[0][0], at * (grid - 1) / (image - 1), rtol=1e-12)
    xyz = sample.cloud.features[:, 1:4].astype(np.float64)
    x, y, z = (np.floor((xyz - np.array([-8, -8, -4])) / 0.5).astype(int)).T
    np.testing.assert_array_equal(sample.cloud.cells, np.column_stack([x * 32 + y, x * 16 + z, y * 16 + z]))
    assert sample.sizes == (len(rows),)


def test_only_points_in_the_field_of_view_after_augmentation() -> None:
    view = view_of(400, spread=6.0)
    for key in range(5):
        xyz = sample_of(view, augmentation=Augment(), key=key).cloud.features[:, 1:4]
        assert (np.abs(xyz) < (8, 8, 4)).all()
    inside = (np.abs(view.xyz) < np.array([8, 8, 4]) - 1e-4).all(1)
    np.testing.assert_array_equal(kept_rows(sample_of(view), view), np.flatnonzero(inside))


def test_a_limit_keeps_the_points_nearest_to_one_of_them() -> None:
    xyz = view_of(300).xyz
    centres = set()
    for key in range(20):
        rows = nearest_to_one(xyz, 40, generator(key))
        assert (np.diff(rows) > 0).all()
        assert len(rows) == 40
        distance = np.linalg.norm(xyz[rows][:, None].astype(float) - xyz[None].astype(float), axis=2)
        balls = np.argsort(distance, axis=1, kind="stable")[:, :40]
        of = [int(row) for row, ball in zip(rows, balls, strict=True) if set(ball) == set(rows)]
        assert of
        centres |= set(of)
    assert len(centres) > 10
    np.testing.assert_array_equal(nearest_to_one(xyz, 300, generator(0)), np.arange(300))


def test_a_sample_is_a_pure_function_of_its_key() -> None:
    view = view_of(300, spread=6.0)
    points = POINTS.model_copy(update={"max_points": 100})
    first, again, other = (sample_of(view, points, Augment(), key=key) for key in (1, 1, 2))
    for name in ("features", "neighbours", "cells"):
        np.testing.assert_array_equal(getattr(first.cloud, name), getattr(again.cloud, name))
    np.testing.assert_array_equal(first.coordinates[0][0], again.coordinates[0][0])
    assert first.cloud.features.shape != other.cloud.features.shape or not np.array_equal(
        first.cloud.features, other.cloud.features
    )


def test_a_sample_changes_nothing_of_what_is_stored() -> None:
    view = view_of(100)
    copies = [value.copy() for value in (view.xyz, view.intensity, view.pixel, view.neighbours)]
    for value in (view.xyz, view.intensity, view.pixel, view.neighbours):
        value.flags.writeable = False  # as read from the cache
    sample_of(view, augmentation=Augment())
    for value, copy in zip((view.xyz, view.intensity, view.pixel, view.neighbours), copies, strict=True):
        np.testing.assert_array_equal(value, copy)


def test_rotation_is_about_z_by_any_angle() -> None:
    xyz = view_of(50).xyz
    angles = []
    for key in range(400):
        turned = augment(xyz, Augment(flip=False, scale=0.0), generator(key))
        assert turned.dtype == np.float32
        np.testing.assert_array_equal(turned[:, 2], xyz[:, 2])
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(xyz, axis=1), rtol=1e-5)
        complex_turn = (turned[:, 0] + 1j * turned[:, 1]) / (xyz[:, 0] + 1j * xyz[:, 1])
        assert np.ptp(complex_turn.real) < 1e-2  # one angle for all points, and no mirror
        angles.append(np.angle(complex_turn[np.argmax(np.hypot(*xyz[:, :2].T))]))
    counts = np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0]
    assert counts.min() > 70


def test_flips_none_x_or_y_a_third_each() -> None:
    xyz = view_of(5).xyz
    signs = []
    for key in range(1500):
        flipped = augment(xyz, Augment(rotate=False, scale=0.0), generator(key))
        np.testing.assert_array_equal(np.abs(flipped), np.abs(xyz))
        signs.append(tuple((np.sign(flipped[0]) * np.sign(xyz[0])).astype(int)))
    found = {sign: signs.count(sign) for sign in set(signs)}
    assert set(found) == {(1, 1, 1), (-1, 1, 1), (1, -1, 1)}
    assert all(430 < count < 570 for count in found.values())


def test_one_factor_of_scale_in_its_range() -> None:
    xyz = view_of(20).xyz
    factors = []
    for key in range(500):
        ratio = augment(xyz, Augment(rotate=False, flip=False, scale=0.1), generator(key)) / xyz
        assert np.ptp(ratio) < 1e-6
        factors.append(float(ratio.mean()))
    assert 0.9 <= min(factors) < 0.91
    assert 1.09 < max(factors) <= 1.1
    np.testing.assert_array_equal(augment(xyz, STILL, generator(0)), xyz)


def test_switching_one_augmentation_off_leaves_the_draws_of_the_others() -> None:
    xyz = view_of(20).xyz
    for key in range(10):
        all_three = augment(xyz, Augment(), generator(key))
        scaled = augment(xyz, Augment(rotate=False, flip=False), generator(key))
        ratio = np.linalg.norm(all_three, axis=1) / np.linalg.norm(scaled, axis=1)
        np.testing.assert_allclose(ratio, 1, rtol=1e-5)

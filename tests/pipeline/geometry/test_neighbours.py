"""The nearest other points, against all distances written out."""

import numpy as np
import pytest

from pipeline.geometry.neighbours import nearest_others


def sorted_distances(xyz: np.ndarray) -> np.ndarray:
    """(N, N - 1) distances to all others, ascending."""
    xyz = xyz.astype(np.float64)
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.sort(distance, axis=1)[:, :-1]


def check(xyz: np.ndarray, found: np.ndarray, rows: np.ndarray) -> None:
    """Each row holds others, none twice, at the distances of the nearest ones, nearest first."""
    count = found.shape[1]
    assert not (found == rows[:, None]).any()
    assert all(len(set(row)) == count for row in found.tolist())
    distance = np.linalg.norm(xyz[found].astype(np.float64) - xyz[rows, None].astype(np.float64), axis=2)
    np.testing.assert_allclose(distance, sorted_distances(xyz)[rows, :count], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 4, 24])
def test_nearest_others_are_those_of_brute_force(count: int) -> None:
    xyz = np.random.default_rng(count).normal(size=(300, 3)).astype(np.float32)
    found = nearest_others(xyz, count)
    assert found.dtype == np.uint32
    assert found.shape == (300, count)
    check(xyz, found, np.arange(300))


def test_only_the_rows_asked_for_but_among_all_points() -> None:
    xyz = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows = np.array([5, 199, 0, 77])
    found = nearest_others(xyz, 6, rows)
    np.testing.assert_array_equal(found, nearest_others(xyz, 6)[rows])
    assert nearest_others(xyz, 6, np.empty(0, np.int64)).shape == (0, 6)


@pytest.mark.parametrize("copies", [2, 5, 20])
def test_points_at_one_place_are_each_others_neighbours_and_never_their_own(copies: int) -> None:
    places = np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32)
    xyz = np.repeat(places, copies, axis=0)
    check(xyz, nearest_others(xyz, 8), np.arange(len(xyz)))


def test_all_points_at_one_place() -> None:
    xyz = np.ones((12, 3), np.float32)
    check(xyz, nearest_others(xyz, 5), np.arange(12))


@pytest.mark.parametrize("points", [2, 3, 5, 6])
def test_a_cloud_with_too_few_points_is_filled_up_with_the_point_itself(points: int) -> None:
    xyz = np.random.default_rng(points).normal(size=(points, 3)).astype(np.float32)
    found = nearest_others(xyz, 5)
    others = min(5, points - 1)
    check(xyz, found[:, :others], np.arange(points))
    np.testing.assert_array_equal(
        found[:, others:], np.repeat(np.arange(points)[:, None], 5 - others, axis=1)
    )


def test_one_point_and_none() -> None:
    assert nearest_others(np.ones((1, 3), np.float32), 3).tolist() == [[0, 0, 0]]
    none = nearest_others(np.empty((0, 3), np.float32), 3)
    assert none.shape == (0, 3)
    assert none.dtype == np.uint32

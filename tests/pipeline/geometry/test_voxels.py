"""One point per voxel, against the published formulation with `np.unique(axis=0)`."""

import numpy as np
import pytest

from pipeline.common.random import generator
from pipeline.geometry.voxels import representatives


def cells_of(xyz: np.ndarray, voxel: float) -> np.ndarray:
    """As published: counted from the smallest coordinate, in float32."""
    return ((xyz - xyz.min(0)) / np.float32(voxel)).astype("int")


def cloud(points: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(points, 3)) * (3, 2, 0.5)).astype(np.float32)


@pytest.mark.parametrize("voxel", [0.1, 0.5, 3.0, 1000.0])
def test_without_a_draw_the_first_in_file_order_as_published(voxel: float) -> None:
    xyz = cloud(4000)
    _, first = np.unique(cells_of(xyz, voxel), axis=0, return_index=True)
    np.testing.assert_array_equal(representatives(xyz, voxel, None), first)


def test_real_coordinates_on_a_voxels_border() -> None:
    """Multiples of the voxel in float32, where another order of operations would give other voxels."""
    xyz = (np.random.default_rng(1).integers(-300, 300, (3000, 3)) * np.float32(0.1)).astype(np.float32)
    _, first = np.unique(cells_of(xyz, 0.1), axis=0, return_index=True)
    np.testing.assert_array_equal(representatives(xyz, 0.1, None), first)


@pytest.mark.parametrize("voxel", [0.1, 0.5, 3.0])
def test_a_draw_takes_each_voxel_once_in_the_voxels_order(voxel: float) -> None:
    xyz = cloud(4000)
    rows = representatives(xyz, voxel, generator(7, "voxel"))
    np.testing.assert_array_equal(cells_of(xyz, voxel)[rows], np.unique(cells_of(xyz, voxel), axis=0))


def test_a_draw_is_reproducible_and_another_key_draws_others() -> None:
    xyz = cloud(4000)
    rows = representatives(xyz, 1.0, generator(7, "voxel", "scan", 0))
    np.testing.assert_array_equal(rows, representatives(xyz, 1.0, generator(7, "voxel", "scan", 0)))
    assert (rows != representatives(xyz, 1.0, generator(7, "voxel", "scan", 1))).mean() > 0.3


def test_a_draw_takes_every_point_of_a_voxel_equally_often() -> None:
    """Two voxels of 5 and 3 points, 3000 draws: chi-square far below what a favourite would give."""
    xyz = np.zeros((8, 3), np.float32)
    xyz[5:, 0] = 10
    xyz[:, 1] = np.linspace(0, 0.5, 8)
    rng = np.random.default_rng(0)
    drawn = np.array([representatives(xyz, 1.0, rng) for _ in range(3000)])
    for column, members in ((drawn[:, 0], range(5)), (drawn[:, 1], range(5, 8))):
        counts = np.bincount(column, minlength=8)[list(members)]
        assert counts.sum() == 3000
        expected = 3000 / len(counts)
        assert (np.square(counts - expected) / expected).sum() < 20


def test_one_point_and_points_at_one_place() -> None:
    assert representatives(np.array([[1, 2, 3]], np.float32), 0.1, None).tolist() == [0]
    same = np.full((50, 3), -4.2, np.float32)
    assert representatives(same, 0.1, None).tolist() == [0]
    assert len(representatives(same, 0.1, generator(0))) == 1


def test_no_point_at_all() -> None:
    assert representatives(np.empty((0, 3), np.float32), 0.1, None).tolist() == []


def test_a_few_absurdly_distant_points_change_nothing_for_the_others() -> None:
    """Finite, so no reader refuses them: a broken return at 1e6 m in each direction."""
    xyz = np.concatenate([cloud(2000), np.diag([1e6, 1e6, 1e6]), -np.diag([1e6, 1e6, 1e6])]).astype(
        np.float32
    )
    _, first = np.unique(cells_of(xyz, 0.1), axis=0, return_index=True)
    np.testing.assert_array_equal(representatives(xyz, 0.1, None), first)

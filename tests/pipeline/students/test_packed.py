"""Packing keeps every cloud's rows together and moves its neighbours with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.students.packed import Cloud, check_batch, pack


def cloud(points: int, seed: int, index: type = np.int32) -> Cloud:
    rng = np.random.default_rng(seed)
    return Cloud(
        features=rng.normal(size=(points, 5)).astype(np.float32),
        neighbours=rng.integers(0, max(points, 1), (points, 4)).astype(index),
        cells=rng.integers(0, 30, (points, 3)).astype(index),
    )


def test_rows_of_each_cloud_lie_together() -> None:
    clouds = [cloud(7, 0), cloud(3, 1, np.uint16), cloud(5, 2, np.int64)]
    packed = pack(clouds)
    assert packed.offsets.tolist() == [0, 7, 10, 15]
    assert packed.sizes().tolist() == [7, 3, 5]
    assert packed.count == 3
    assert packed.cloud_of_row().tolist() == [0] * 7 + [1] * 3 + [2] * 5
    assert packed.features.dtype == torch.float32
    assert {packed.neighbours.dtype, packed.cells.dtype, packed.offsets.dtype} == {torch.int64}
    for single, start, stop in zip(clouds, packed.offsets[:-1], packed.offsets[1:], strict=True):
        np.testing.assert_array_equal(packed.features[start:stop], single.features)
        np.testing.assert_array_equal(packed.cells[start:stop], single.cells)
        # a neighbour is the same point as before, found at its packed row
        np.testing.assert_array_equal(
            packed.features[packed.neighbours[start:stop]], single.features[single.neighbours]
        )


def test_packing_leaves_the_clouds_alone() -> None:
    clouds = [cloud(4, 0, np.int64), cloud(4, 1, np.int64)]
    before = clouds[1].neighbours.copy()
    pack(clouds).neighbours.zero_()
    np.testing.assert_array_equal(clouds[1].neighbours, before)


def test_an_empty_cloud_keeps_its_place() -> None:
    packed = pack([cloud(2, 0), cloud(0, 1), cloud(3, 2)])
    assert packed.offsets.tolist() == [0, 2, 2, 5]
    assert packed.cloud_of_row().tolist() == [0, 0, 2, 2, 2]


def test_moving_keeps_the_offsets_on_the_cpu() -> None:
    moved = pack([cloud(2, 0)]).to("meta")
    assert moved.features.device.type == moved.neighbours.device.type == moved.cells.device.type == "meta"
    assert moved.offsets.device.type == "cpu"


def test_wrong_shapes_and_rows_are_refused() -> None:
    good, other = cloud(6, 0), cloud(6, 1)
    with pytest.raises(ValueError, match="at least one"):
        pack([])
    with pytest.raises(
        ValueError, match=r"cloud 1 of the batch: cells has shape \(6, 2\), expected \(6, 3\)"
    ):
        pack([good, Cloud(other.features, other.neighbours, other.cells[:, :2])])
    with pytest.raises(ValueError, match="neighbours"):
        pack([good, Cloud(other.features, other.neighbours[:5], other.cells)])
    with pytest.raises(ValueError, match="features"):
        pack([Cloud(good.features[:, :4], good.neighbours, good.cells)])
    with pytest.raises(ValueError, match=r"6 points, but its neighbours run from .* to 6"):
        pack([Cloud(good.features, np.full_like(good.neighbours, 6), good.cells)])


def test_rows_that_are_not_finite_are_named() -> None:
    good = cloud(6, 0)
    features = good.features.copy()
    features[4, 1], features[5, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"cloud 1 of the batch: 2 of 6 rows of features .* row 4: \[.*nan"):
        pack([good, Cloud(features, good.neighbours, good.cells)])


def test_batches_that_no_student_can_take() -> None:
    shapes, packed = ((256, 256), (256, 32), (256, 32)), pack([cloud(6, 0), cloud(0, 1), cloud(3, 2)])
    check_batch(packed, shapes, 768)
    check_batch(pack([cloud(0, 0)]), shapes, 768)
    for offsets in ([0, 6, 4, 9], [0, 6, 6, 8], [1, 6, 6, 9]):
        with pytest.raises(ValueError, match=r"3 clouds must rise from 0 to the 9 points, but are \[.*\]"):
            check_batch(replace(packed, offsets=torch.tensor(offsets)), shapes, 768)
    for wrong in (-1, 256 * 32):
        cells = packed.cells.clone()
        cells[8, 1] = wrong
        with pytest.raises(ValueError, match=rf"plane 1, which has 256 x 32, run from .*{wrong}"):
            check_batch(replace(packed, cells=cells), shapes, 768)
    with pytest.raises(ValueError, match="9 points of 268435456 channels are 2415919104 elements"):
        check_batch(packed, shapes, 1 << 28)
    with pytest.raises(ValueError, match="cells on 3 planes, the student mixes 2"):
        check_batch(packed, shapes[:2], 768)

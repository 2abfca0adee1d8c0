"""The two rules of augmentation with labels, against what the released transforms do to columns, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.common.random import generator
from pipeline.config.training import LabelledAugment
from pipeline.streaming.augment import augmented, point_features

INTENSITY = (10.0, 4.0)
XYZ = (np.random.default_rng(0).normal(size=(50, 3)) * (20, 20, 2)).astype(np.float32)
RAW = np.random.default_rng(1).uniform(0, 255, 50).astype(np.float32)


def moved(seed: int, **rule: Any) -> tuple[np.ndarray, np.ndarray]:
    config = LabelledAugment.model_validate(rule)
    return augmented(RAW, XYZ, config, INTENSITY, generator(seed))


def turn_of(before: np.ndarray, after: np.ndarray) -> complex:
    """What multiplies x + iy, the same for all points; of a flip along x also conjugated, which fails here."""
    factors = (after[:, 0] + 1j * after[:, 1]) / (before[:, 0] + 1j * before[:, 1])
    np.testing.assert_allclose(factors, factors[0], rtol=1e-4)
    return complex(factors[0])


def test_by_the_paper_features_are_those_of_the_moved_points() -> None:
    for seed in range(8):
        xyz, features = moved(seed)
        np.testing.assert_array_equal(features, point_features(RAW, xyz, INTENSITY))
        factor = np.linalg.norm(xyz, axis=1) / np.linalg.norm(XYZ, axis=1)
        np.testing.assert_allclose(factor, factor[0], rtol=1e-5)
        assert 0.9 <= factor[0] <= 1.1


def test_as_released_coordinates_and_features_turn_apart_and_features_alone_are_scaled() -> None:
    """finetune.py and configs/downstream: rotation [2, 6], flip_xy, scale [4, 5, 6, 7]."""
    angles, flipped = [], 0
    for seed in range(40):
        xyz, features = moved(seed, rule="released")
        # The coordinates keep their lengths: they are not scaled.
        np.testing.assert_allclose(np.linalg.norm(xyz, axis=1), np.linalg.norm(XYZ, axis=1), rtol=1e-5)
        np.testing.assert_array_equal(xyz[:, 2], XYZ[:, 2])
        np.testing.assert_allclose(features[:, 0], (RAW - 10) / 4, rtol=1e-6)
        of_features = turn_of(XYZ, features[:, 1:3])  # raises if they were flipped
        factor = abs(of_features)
        assert 0.9 <= factor <= 1.1
        np.testing.assert_allclose(features[:, 3], XYZ[:, 2] * factor, rtol=1e-4)
        np.testing.assert_allclose(features[:, 4], np.linalg.norm(XYZ, axis=1) * factor, rtol=1e-4)
        try:
            of_coordinates = turn_of(XYZ, xyz)
        except AssertionError:
            flipped += 1
            continue
        angles.append((np.angle(of_coordinates), np.angle(of_features)))
    assert 15 <= flipped <= 36, "two of three are flipped"
    assert all(abs(one - other) > 1e-3 for one, other in angles), "the two angles are drawn apart"


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_what_is_switched_off_stays(rule: str) -> None:
    xyz, features = moved(3, rule=rule, rotate=False, flip=False, scale=0.0)
    np.testing.assert_array_equal(xyz, XYZ)
    np.testing.assert_array_equal(features, point_features(RAW, XYZ, INTENSITY))
    again = moved(3, rule=rule)
    np.testing.assert_array_equal(again[1], moved(3, rule=rule)[1])

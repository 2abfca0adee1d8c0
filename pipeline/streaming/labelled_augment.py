"""Augmentation of labelled scans, with the features that go with it, by the paper's words or as in the released code.

Source: ScaLR, section 4.2 ("globally scale the coordinates"), and its released configs/downstream, finetune.py and
utils/transforms.py, where features are made first and then moved on their own.
"""

from __future__ import annotations

import numpy as np

from pipeline.config.training import LabelledAugment
from pipeline.streaming.augment import augment
from pipeline.streaming.sample import point_features


def augmented(
    raw: np.ndarray,
    xyz: np.ndarray,
    config: LabelledAugment,
    intensity: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Augmented coordinates (N, 3) float32, metres, and the student's features (N, 5) of these points.

    raw: (N,) intensity as recorded. xyz: (N, 3). By `paper` features are those of the moved points. By `released` the
    features x, y turn by an angle of their own, do not flip, and alone are scaled, as is the range; coordinates are not.
    """
    if config.rule == "paper":
        moved = augment(xyz, config, rng)
        return moved, point_features(raw, moved, intensity)
    # Coordinates and features are drawn apart, each with its part of the augmentation switched on.
    moved = augment(xyz, config.model_copy(update={"scale": 0.0}), rng)
    shown = augment(xyz, config.model_copy(update={"flip": False}), rng)
    return moved, point_features(raw, shown, intensity)

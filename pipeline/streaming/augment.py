"""Augmentation of a sample's points: rotation about z, one flipped axis, one factor of scale.

Source: ScaLR, section 4.2 and supplement B.2; the released code (datasets/im_pc_dataset.py) scales in pretraining,
too, where the paper speaks of it for probing and finetuning only.
"""

from __future__ import annotations

import numpy as np

from pipeline.config.training import Augment, LabelledAugment


def augment(xyz: np.ndarray, config: Augment, rng: np.random.Generator) -> np.ndarray:
    """Augmented copy of points (N, 3) float32, metres. Draws the same numbers whatever is switched on.

    In memory the copy is stored axis by axis: what follows works on one axis at a time, which makes it several times faster.
    """
    angle = rng.uniform(-np.pi, np.pi)
    flips = rng.random() < 2 / 3
    axis = int(rng.integers(2))
    factor = 1 + rng.uniform(-1, 1) * config.scale
    out = np.array(xyz.T, order="C")  # (3, N)
    if config.rotate:
        cos, sin = np.cos(angle), np.sin(angle)
        out[:2] = np.array([[cos, -sin], [sin, cos]]) @ out[:2]
    if config.flip and flips:
        out[axis] *= -1
    out *= np.float32(factor)
    return out.T


def augmented(
    raw: np.ndarray,
    xyz: np.ndarray,
    config: LabelledAugment,
    intensity: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Augmented coordinates (N, 3) float32, metres, and the student's features (N, 5) of these points.

    raw: (N,) intensity as recorded. xyz: (N, 3). With the rule `paper`, features are computed from the moved points. With
    `released`, the features x and y are rotated by an angle of their own and are not flipped; x, y, z and the range are
    scaled in the features only, never in the coordinates.
    """
    if config.rule == "paper":
        moved = augment(xyz, config, rng)
        return moved, point_features(raw, moved, intensity)
    # Two separate draws: coordinates without the scale, features without the flip.
    moved = augment(xyz, config.model_copy(update={"scale": 0.0}), rng)
    shown = augment(xyz, config.model_copy(update={"flip": False}), rng)
    return moved, point_features(raw, shown, intensity)


def point_features(raw: np.ndarray, xyz: np.ndarray, intensity: tuple[float, float]) -> np.ndarray:
    """(n, 5) float32: intensity (n,) normalised by mean and deviation, x, y, z (n, 3) and range in metres."""
    mean, deviation = (np.float32(value) for value in intensity)
    features = np.empty((5, len(xyz)), np.float32)
    np.subtract(raw, mean, out=features[0])
    features[0] /= deviation
    features[1:4] = xyz.T
    x, y, z = features[1:4]
    np.sqrt(x * x + y * y + z * z, out=features[4])
    return features.T

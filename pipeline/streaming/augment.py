"""Augmentation of a sample's points: rotation about z, one flipped axis, one factor of scale.

Source: ScaLR, section 4.2 and supplement B.2; the released code (datasets/im_pc_dataset.py) scales in pretraining,
too, where the paper speaks of it for probing and finetuning only.
"""

from __future__ import annotations

import numpy as np

from pipeline.config.model import Augment


def augment(xyz: np.ndarray, config: Augment, rng: np.random.Generator) -> np.ndarray:
    """Augmented copy of points (N, 3) float32, metres. Draws the same numbers whatever is switched on."""
    angle = rng.uniform(-np.pi, np.pi)
    flips = rng.random() < 2 / 3
    axis = int(rng.integers(2))
    factor = 1 + rng.uniform(-1, 1) * config.scale
    out = xyz.copy()
    if config.rotate:
        cos, sin = np.cos(angle), np.sin(angle)
        out[:, :2] = out[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    if config.flip and flips:
        out[:, axis] *= -1
    return out * np.float32(factor)

"""Augmentation of a sample's points: rotation about z, one flipped axis, one factor of scale.

Source: ScaLR, section 4.2 and supplement B.2; the released code (datasets/im_pc_dataset.py) scales in pretraining,
too, where the paper speaks of it for probing and finetuning only.
"""

from __future__ import annotations

import numpy as np

from pipeline.config.model import Augment


def augment(xyz: np.ndarray, config: Augment, rng: np.random.Generator) -> np.ndarray:
    """Augmented copy of points (N, 3) float32, metres. Draws the same numbers whatever is switched on.

    The copy lies axis by axis in memory: all that follows works on one axis at a time, and is several times faster.
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

"""Stochastic depth as a pure function: which residuals of which cloud are dropped at a step.

A mask depends on (seed, step, scan, layer) and on nothing else, so it is the same for any batch, any number
of ranks or workers, and after any restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SPATIAL, CHANNEL = 0, 1
"""Places in the last dimension of the masks: spatial mix and channel mix are dropped independently."""

_DOMAIN = 0x73746F64  # keeps these numbers apart from any other use of the same key
_WORD = (1 << 64) - 1


def masks(seed: int, step: int, scan_keys: Sequence[int], depth: int, prob: float) -> Tensor:
    """Factors of the residuals: 0 with probability `prob`, else 1 / (1 - prob), at one rate in all layers.

    scan_keys: one integer of up to 64 bits per cloud of the batch, that names its scan for good.
    Returns (B, depth, 2) float32 on the CPU; the last dimension is (SPATIAL, CHANNEL).

    The numbers are raw words of Philox 4x64 with key (seed, scan) and counter (0, step, domain, 0), whose
    stream numpy promises not to change; 53 bits of each make a uniform number. Layer d reads words 2d and
    2d + 1, so a deeper student sees the same masks in the layers they share.
    """
    if not 0.0 <= prob < 1.0:
        raise ValueError(f"the probability of dropping a residual must lie in [0, 1), not {prob}")
    if step < 0:
        raise ValueError(f"a step is counted from 0, not {step}")
    keep = 1.0 - prob
    factors = np.empty((len(scan_keys), depth, 2), dtype=np.float32)  # (B, depth, 2)
    for row, scan in zip(factors, scan_keys, strict=True):
        stream = np.random.Philox(
            key=np.array([seed & _WORD, scan & _WORD], dtype=np.uint64),
            counter=np.array([0, step, _DOMAIN, 0], dtype=np.uint64),
        )
        uniform = (stream.random_raw(2 * depth) >> np.uint64(11)) * 2.0**-53  # (2 depth,) float64 in [0, 1)
        row[:] = ((uniform < keep) / keep).reshape(depth, 2)
    return torch.from_numpy(factors)

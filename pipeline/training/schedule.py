"""The learning rate as a pure function of the step: linear warm-up, then half a cosine
(ScaLR, supplement B.2).
"""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, minimum: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of optimiser step `step`, counted from 0: the first step moves nothing.

    With W = warmup_steps, T = total_steps and m = minimum / peak, the factor of `peak` is
    t / W for t < W, and m + (1 - m) / 2 * (1 + cos(pi * (t - W) / (T - W))) from there on; it reaches m at
    t = T, one step after the last.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"a warm-up of {warmup_steps} steps does not fit in a run of {total_steps} steps")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} lies outside the run of {total_steps} steps")
    if not 0.0 <= minimum <= peak or peak == 0.0:
        raise ValueError(f"learning rates must satisfy 0 <= minimum <= peak and peak > 0: {minimum}, {peak}")
    if step < warmup_steps:
        return peak * (step / warmup_steps)
    floor = minimum / peak
    angle = math.pi * (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * (floor + (1 - floor) / 2 * (1 + math.cos(angle)))

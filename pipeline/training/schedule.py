"""Learning rates as pure functions of the step: linear warm-up, then half a cosine (ScaLR, supplement B.2), or a
reciprocal square root with a linear cooldown (ScaLR+, its released utils/scheduler.py).

Steps are optimiser steps, counted from 0; the first one has rate 0 and moves nothing.
"""

from __future__ import annotations

import math

from pipeline.config.training import Optimiser


def learning_rate(step: int, *, peak: float, minimum: float, warmup_steps: float, total_steps: int) -> float:
    """Warm-up and cosine.

    With W = warmup_steps, T = total_steps and m = minimum / peak, the factor of `peak` is
    t / W for t < W, and m + (1 - m) / 2 * (1 + cos(pi * (t - W) / (T - W))) from there on; it reaches m at
    t = T, one step after the last.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"a warm-up of {warmup_steps} steps does not fit in a run of {total_steps} steps")
    _check_step(step, total_steps)
    if not 0.0 <= minimum <= peak or peak == 0.0:
        raise ValueError(f"learning rates must satisfy 0 <= minimum <= peak and peak > 0: {minimum}, {peak}")
    if step < warmup_steps:
        return peak * (step / warmup_steps)
    # The order of the published operations, so that rates are theirs to the last digit.
    floor = minimum / peak
    angle = (step - warmup_steps) / (total_steps - warmup_steps) * math.pi
    return peak * (floor + 0.5 * (1 - floor) * (math.cos(angle) + 1))


def reciprocal_sqrt(
    step: int,
    *,
    peak: float,
    warmup_steps: float,
    cooldown_start: float,
    timescale: float,
    total_steps: int,
) -> float:
    """Warm-up, reciprocal square root and linear cooldown; all in steps.

    With W, C, tau and M the four lengths, the factor of `peak` is t / W for t <= W, 1 / sqrt(1 + (t - W) / tau) for
    t <= C, then b (M - C - (t - C) - 1) / (M - C - 1) with b = 1 / sqrt(1 + C / tau), and 0 from M on. W is not subtracted
    in b: as published, the rate makes a small step down where the cooldown starts (0.0849 to 0.0842 at ScaLR+'s numbers).
    """
    if not 0 < warmup_steps <= cooldown_start <= total_steps or timescale <= 0:
        raise ValueError(
            f"a warm-up of {warmup_steps} steps, a cooldown from step {cooldown_start} and a time scale of {timescale} "
            f"steps do not fit in a run of {total_steps} steps"
        )
    _check_step(step, total_steps)
    if step <= warmup_steps:
        return peak * (step / warmup_steps)
    if step <= cooldown_start:
        return peak * (1 / math.sqrt(1 + (step - warmup_steps) / timescale))
    if step >= total_steps:
        return 0.0
    cooldown = total_steps - cooldown_start
    base = 1 / math.sqrt(1 + cooldown_start / timescale)
    return peak * (base * (cooldown - (step - cooldown_start) - 1) / (cooldown - 1))


def rate_of(optimiser: Optimiser, step: int, per_epoch: int) -> float:
    """The rate of a pretraining's step: what its config asks for, its epochs turned into steps as published.

    A run too short for its warm-up or cooldown (a test's) shortens them.
    """
    total = per_epoch * optimiser.epochs
    warmup = optimiser.warmup if optimiser.warmup_epochs is None else optimiser.warmup_epochs * per_epoch
    if optimiser.schedule == "cosine":
        return learning_rate(
            step,
            peak=optimiser.lr,
            minimum=optimiser.min_lr,
            warmup_steps=min(warmup, total - 1),
            total_steps=total,
        )
    cooldown = optimiser.epochs if optimiser.cooldown_epoch is None else optimiser.cooldown_epoch
    return reciprocal_sqrt(
        step,
        peak=optimiser.lr,
        warmup_steps=min(max(warmup, 1), cooldown * per_epoch),
        cooldown_start=cooldown * per_epoch,
        timescale=optimiser.timescale * per_epoch,
        total_steps=total,
    )


def _check_step(step: int, total_steps: int) -> None:
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step} lies outside the run of {total_steps} steps")

"""The arithmetics that a student is computed in, and how far each may lie from float64.

A rounding moves a value by at most `unit` of itself, and a value passes some `roundings` of them one after the other. Errors
of single roundings have no common direction, so they add as squares: sqrt(roundings) * unit, as a share of an output's
norm. Sums of many terms are kept in float32 or better, and of those errors the worst is allowed, all in one direction:
roundings * 2^-24 more. On a CPU float32 and the 16-bit types come to a fifth of this bound, float64 to a fourth.

Gradients have more to lose, and not by a fault. Where a ReLU's input x of deviation 1 is off by e of deviation d, its
sign, and so the gradient's way, is another one with chance arctan(d) / pi: of two normal variables x and x + e. Half of
the inputs let gradients through, so d / pi of all being wrong is a share sqrt(2 d / pi) of the gradient's norm. A maximum
over 16 neighbours changes its giver as often or less. Errors of several such places add as squares: of `switches` of them
sqrt(switches * 2 d / pi), d being what the output may be off. In float64 this does not happen in clouds of some hundred
points: a value would have to lie within 1e-15 of zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import pi, sqrt

import torch


@dataclass(frozen=True)
class Arithmetic:
    """One way to compute.

    Attributes:
        dtype: of the weights and the input.
        short: the type of autocast, or None.
        tf32: whether float32 goes through the matrix units, with 10 bits behind the point.
        unit: the largest relative error of one rounding. TF32 may cut bits off: twice that of rounding to its 11.
    """

    name: str
    dtype: torch.dtype
    short: torch.dtype | None = None
    tf32: bool = False
    unit: float = 0.0

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """What is computed inside, forward, is computed so; backward it follows the types, and needs `matrix_units`."""
        with self.matrix_units(), torch.autocast(device.type, self.short, enabled=self.short is not None):
            yield

    @contextmanager
    def matrix_units(self) -> Iterator[None]:
        """TF32 as it is wanted, for products and convolutions."""
        flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [flag.allow_tf32 for flag in flags]
        try:
            for flag in flags:
                flag.allow_tf32 = self.tf32  # type: ignore[attr-defined]
            yield
        finally:
            for flag, value in zip(flags, before, strict=True):
                flag.allow_tf32 = value  # type: ignore[attr-defined]

    def output_bound(self, depth: int) -> float:
        """Of an output's distance from float64's, as a share of its norm, `depth` layers behind an embedding."""
        count, of_sums = roundings(depth), min(self.unit, 2.0**-24)
        return sqrt(count) * self.unit + count * of_sums

    def gradient_bound(self, depth: int) -> float:
        """Likewise of gradients."""
        there_and_back = 3 * self.output_bound(depth)
        if self.dtype == torch.float64:
            return there_and_back
        return there_and_back + sqrt(switches(depth) * 2 / pi * self.output_bound(depth))


ARITHMETICS = {
    one.name: one
    for one in (
        Arithmetic("float64", torch.float64, unit=2.0**-53),
        Arithmetic("float32", torch.float32, unit=2.0**-24),
        Arithmetic("tf32", torch.float32, tf32=True, unit=2.0**-10),
        Arithmetic("bfloat16", torch.float32, torch.bfloat16, unit=2.0**-8),
        Arithmetic("float16", torch.float32, torch.float16, unit=2.0**-11),
    )
}


def roundings(depth: int) -> int:
    """That a value passes: 8 in the embedding (norm, weights and values of its two maps, merge), in a layer 4 in each mix
    where it is longest (what a product takes, weight and row; what it gives, twice) and one where they are added."""
    return 8 + 10 * depth


def switches(depth: int) -> int:
    """Places where a gradient's way is chosen: a ReLU and a maximum in the embedding, a ReLU in each mix of a layer."""
    return 2 + 2 * depth

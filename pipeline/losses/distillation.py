"""ScaLR's loss: how far a student's feature points away from its teacher's (CVPR 2024, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST = 1e-12
"""A feature that is shorter than this is divided by this, as torch's `normalize` does."""


def feature_distance(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Distance between the l2-normalised features of each point; of one teacher between 0 and 2 (opposite).

    student: (P, C1 + C2 + ...), teachers: (P, C1), (P, C2), ..., any float type, not normalised. Of several teachers each
    part is l2-normalised on both sides and the distance is between the parts side by side (supplement B.2): the root of
    the sum of the parts' squared distances.
    Returns (P,) float32 (float64 for float64): the norm, not its square, computed outside autocast because 16 bits cannot
    hold a small difference. Gradients flow to the student alone: teachers are frozen.

    The norm has no derivative where the two directions are equal: there the gradient is the subgradient 0, as in the
    published code, whose backward divides by the norm, then sets to 0 the rows whose norm is 0. Everywhere else the
    gradient is a unit vector, so nothing overflows near 0.
    """
    _check_shapes(student, teachers)
    with torch.autocast(student.device.type, enabled=False):
        distance: Tensor = _Distance.apply(student, *(teacher.detach() for teacher in teachers))  # (P,)
    return distance


def distillation_loss(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Equation 1: the mean distance over all points of the batch, whatever cloud they are in.

    student: (P, C1 + C2 + ...), teachers: (P, C1), (P, C2), ... Returns a scalar; 0 where there is no point.
    """
    return _mean(feature_distance(student, teachers))


@torch.no_grad()
def losses_of_parts(student: Tensor, teachers: Sequence[Tensor]) -> list[Tensor]:
    """For the log: each teacher's own mean distance, a scalar each."""
    _check_shapes(student, teachers)
    parts = student.split([teacher.shape[1] for teacher in teachers], dim=1)
    return [_mean(feature_distance(part, [teacher])) for part, teacher in zip(parts, teachers, strict=True)]


class _Distance(torch.autograd.Function):
    """`feature_distance` in few passes: with as many channels as a teacher has, each pass costs as much as a layer's.

    With a the student's feature, d its distance, u = a / |a| less the teacher's, the gradient of d by a is
    (u - a (a . u) / |a|^2) / (d |a|). Kept for it are the student's features and u, (P, C) each.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, *teachers: Tensor) -> Tensor:
        dtype = torch.promote_types(student.dtype, torch.float32)
        for teacher in teachers:
            dtype = torch.promote_types(dtype, teacher.dtype)
        sizes = [teacher.shape[1] for teacher in teachers]
        difference = student.new_empty(student.shape, dtype=dtype)  # (P, C)
        lengths = []
        for part, teacher, out in zip(
            student.split(sizes, dim=1), teachers, difference.split(sizes, dim=1), strict=True
        ):
            part, teacher = part.to(dtype), teacher.to(dtype)  # (P, C1)
            lengths.append(_length(part))
            torch.div(part, lengths[-1].clamp_min(SMALLEST), out=out)
            out.addcdiv_(teacher, _length(teacher).clamp_min(SMALLEST), value=-1)
        distance = torch.linalg.vector_norm(difference, dim=1)  # (P,)
        ctx.save_for_backward(student, difference, distance, torch.cat(lengths, dim=1))
        ctx.sizes = sizes
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_distance: Tensor) -> tuple[Tensor | None, ...]:
        student, difference, distance, lengths = ctx.saved_tensors
        slope = (grad_distance / distance).masked_fill_(distance == 0, 0).unsqueeze(1)  # (P, 1)
        grad_student = torch.empty_like(difference)  # (P, C)
        for part, apart, length, out in zip(
            student.split(ctx.sizes, dim=1),
            difference.split(ctx.sizes, dim=1),
            lengths.unbind(1),
            grad_student.split(ctx.sizes, dim=1),
            strict=True,
        ):
            part, length = part.to(difference.dtype), length.unsqueeze(1)  # (P, C1), (P, 1)
            divisor = length.clamp_min(SMALLEST)
            torch.mul(part, apart, out=out)
            along = out.sum(1, keepdim=True)  # (P, 1), a . u
            # Where a feature is too short to be normalised, its length is a constant.
            along = (along / divisor.square()).masked_fill_(length < SMALLEST, 0)
            scale = slope / divisor
            torch.mul(apart, scale, out=out)
            out.addcmul_(part, along * scale, value=-1)
        return grad_student.to(student.dtype), *(None for _ in ctx.sizes)


def _length(features: Tensor) -> Tensor:
    """(P, C) to (P, 1)."""
    return torch.linalg.vector_norm(features, dim=1, keepdim=True)


def _check_shapes(student: Tensor, teachers: Sequence[Tensor]) -> None:
    wrong = student.shape[1] != sum(teacher.shape[1] for teacher in teachers)
    if wrong or any(len(teacher) != len(student) for teacher in teachers):
        shapes = [tuple(teacher.shape) for teacher in teachers]
        raise ValueError(f"student has shape {tuple(student.shape)}, its teachers {shapes}")


def _mean(distance: Tensor) -> Tensor:
    return distance.sum() / max(len(distance), 1)

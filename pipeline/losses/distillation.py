"""ScaLR's loss: how far a student's feature points away from its teacher's (CVPR 2024, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_distance(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Distance between the l2-normalised features of each point; of one teacher between 0 and 2 (opposite).

    student: (P, C1 + C2 + ...), teachers: (P, C1), (P, C2), ..., any float type, not normalised. Of several teachers each
    part is l2-normalised on both sides and the distance is between the parts side by side (supplement B.2): the root of
    the sum of the parts' squared distances.
    Returns (P,) float32 (float64 for float64): the norm, not its square, computed outside autocast because 16 bits cannot
    hold a small difference.

    The norm has no derivative where the two directions are equal. `vector_norm` returns the subgradient 0
    there, as the published code does: its backward divides by the norm, then sets to 0 the rows whose norm
    is 0. Everywhere else the gradient is a unit vector, so nothing overflows near 0.
    """
    with torch.autocast(student.device.type, enabled=False):
        difference = torch.cat(_differences(student, teachers), dim=1)  # (P, C)
        distance: Tensor = torch.linalg.vector_norm(difference, dim=1)  # (P,)
    return distance


def distillation_loss(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Equation 1: the mean distance over all points of the batch, whatever cloud they are in.

    student: (P, C1 + C2 + ...), teachers: (P, C1), (P, C2), ... Returns a scalar; 0 where there is no point.
    """
    return _mean(feature_distance(student, teachers))


@torch.no_grad()
def losses_of_parts(student: Tensor, teachers: Sequence[Tensor]) -> list[Tensor]:
    """For the log: each teacher's own mean distance, a scalar each."""
    return [_mean(torch.linalg.vector_norm(part, dim=1)) for part in _differences(student, teachers)]


def _differences(student: Tensor, teachers: Sequence[Tensor]) -> list[Tensor]:
    """Between the l2-normalised features of each teacher's part: (P, C1), (P, C2), ..."""
    sizes = [teacher.shape[1] for teacher in teachers]
    if student.shape[1] != sum(sizes) or any(len(teacher) != len(student) for teacher in teachers):
        shapes = [tuple(teacher.shape) for teacher in teachers]
        raise ValueError(f"student has shape {tuple(student.shape)}, its teachers {shapes}")
    dtype = torch.promote_types(student.dtype, torch.float32)
    for teacher in teachers:
        dtype = torch.promote_types(dtype, teacher.dtype)
    return [
        F.normalize(part.to(dtype), dim=1) - F.normalize(teacher.to(dtype), dim=1)
        for part, teacher in zip(student.split(sizes, dim=1), teachers, strict=True)
    ]


def _mean(distance: Tensor) -> Tensor:
    return distance.sum() / max(len(distance), 1)

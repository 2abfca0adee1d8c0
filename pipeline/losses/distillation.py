"""ScaLR's loss: how far a student's feature points away from its teacher's (CVPR 2024, equation 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance between the l2-normalised features of each point, between 0 (same direction) and 2 (opposite).

    student, teacher: (P, C), any float type, not normalised. Returns (P,) float32 (float64 for float64):
    the norm, not its square, computed outside autocast because 16 bits cannot hold a small difference.

    The norm has no derivative where the two directions are equal. `vector_norm` returns the subgradient 0
    there, as the published code does: its backward divides by the norm, then sets to 0 the rows whose norm
    is 0. Everywhere else the gradient is a unit vector, so nothing overflows near 0.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student has shape {tuple(student.shape)}, teacher {tuple(teacher.shape)}")
    with torch.autocast(student.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
        difference = F.normalize(student.to(dtype), dim=1) - F.normalize(teacher.to(dtype), dim=1)  # (P, C)
        distance: Tensor = torch.linalg.vector_norm(difference, dim=1)  # (P,)
    return distance


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Equation 1: the mean distance over all points of the batch, whatever cloud they are in.

    student, teacher: (P, C). Returns a scalar; 0 where there is no point.
    """
    distance = feature_distance(student, teacher)  # (P,)
    return distance.sum() / max(len(distance), 1)

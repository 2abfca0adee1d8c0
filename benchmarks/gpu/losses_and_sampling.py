"""The losses and the sampling of patch grids on a device, against the same in float64 on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.cells import Wrong
from benchmarks.gpu.lines import Row
from cache_schemas.storage import decode, encode
from pipeline.losses.distillation import distillation_loss
from pipeline.losses.lovasz import IGNORE, segmentation_loss
from pipeline.streaming.grids import TargetBatch

POINTS, CHANNELS, CLASSES = 3001, (384, 97), 17
UNIT = 2.0**-24
Loss = Callable[[Tensor], Tensor]


def losses(device: torch.device) -> Row:
    """Value and gradient of both losses, of students in float32 and, as autocast leaves them, in bfloat16.

    What goes in is the same to the bit on both sides, and both losses compute in float32 and add up `POINTS` numbers of
    one sign: a value may be off by some 100 roundings, a gradient, whose rows are differences of unit vectors, by as many.
    A gradient of a bfloat16 student is given back in that type, which rounds it to 2^-8.
    """
    generator = torch.Generator().manual_seed(0)
    teachers = [torch.randn(POINTS, size, generator=generator) for size in CHANNELS]
    student = torch.randn(POINTS, sum(CHANNELS), generator=generator)
    student[:3] = 0  # no direction at all
    logits = torch.randn(POINTS, CLASSES, generator=generator)
    labels = torch.randint(0, CLASSES - 2, (POINTS,), generator=generator)  # two classes are absent
    labels[::7] = IGNORE

    def distillation(of: Tensor) -> Tensor:
        return distillation_loss(of, [teacher.to(of.device) for teacher in teachers])

    def equation_1(of: Tensor) -> Tensor:
        parts = [F.normalize(part, dim=1) for part in of.split(CHANNELS, dim=1)]
        wanted = [F.normalize(teacher.double(), dim=1) for teacher in teachers]
        apart = torch.cat(parts, 1) - torch.cat(wanted, 1)  # (P, C)
        return torch.linalg.vector_norm(apart, dim=1).sum() / POINTS

    def segmentation(of: Tensor) -> Tensor:
        return segmentation_loss(of, labels.to(of.device))

    row: Row = {}
    cases: tuple[tuple[str, Tensor, Loss, Loss], ...] = (
        ("distillation", student, distillation, equation_1),
        ("segmentation", logits, segmentation, segmentation),
    )
    for dtype, gradient_bound in ((torch.float32, 100 * UNIT), (torch.bfloat16, 2.0**-8)):
        for name, given, ours, exact in cases:
            low = given.to(dtype)
            value, gradient = _both(low.to(device), ours)
            true_value, true_gradient = _both(low.double(), exact)
            key = f"{name}_{str(dtype)[6:]}"
            row[key] = abs(value - true_value) / true_value
            row[f"{key}_gradient"] = float((gradient - true_gradient).norm() / true_gradient.norm())
            if not (row[key] <= 100 * UNIT and row[f"{key}_gradient"] <= gradient_bound):
                raise Wrong(f"{name} of a student in {str(dtype)[6:]}", **row)
    return row


def _both(given: Tensor, loss: Loss) -> tuple[float, Tensor]:
    """Value, and gradient in float64 on the CPU; of a row without a direction 0, where a norm's own is not defined."""
    given = given.detach().requires_grad_()
    value = loss(given)
    (gradient,) = torch.autograd.grad(value, given)
    gradient = gradient.double().cpu()
    gradient[(given.detach().cpu() == 0).all(1)] = 0
    return value.item(), gradient


def sampling(device: torch.device) -> Row:
    """Patch grids in each way of storing, at random points and on the grids' borders.

    A value is four weighted ones, a weight two products: 6 roundings of float32, and one of the coordinate, which may lie
    off by 2^-24 of up to 32 columns and moves a value by so much of the step to the next patch.
    """
    rng = np.random.default_rng(0)
    views, rows, cols, channels = 3, 16, 32, 384
    at = rng.uniform(0, 1, (POINTS, 2)) * [cols - 1, rows - 1]
    at[:4] = [[0, 0], [cols - 1, rows - 1], [cols - 1, 0], [0, rows - 1]]
    at = at.astype(np.float32).astype(np.float64)
    view = np.sort(rng.integers(0, views, POINTS))
    found: Row = {}
    for storage in ("float32", "float16", "int8"):
        arrays = encode(rng.normal(size=(views, rows, cols, channels)).astype(np.float32), storage)
        values, scales = arrays["features"], arrays.get("scales")
        stored = decode(values, scales).astype(np.float64)
        batch = TargetBatch(
            torch.from_numpy(values),
            None if scales is None else torch.from_numpy(scales),
            torch.from_numpy(at.astype(np.float32)),
        )
        sampled = batch.to(device).sample(torch.from_numpy(view).to(device))
        apart = np.abs(sampled.double().cpu().numpy() - _bilinear(stored, at, view)).max()
        found[storage] = float(apart / np.abs(stored).max())
        if not found[storage] <= (6 + 2 * 32) * UNIT:
            raise Wrong(f"grids in {storage}", **found)
    return found


def _bilinear(grids: np.ndarray, at: np.ndarray, view: np.ndarray) -> np.ndarray:
    """grids: (V, rows, cols, C). at: (P, 2) column, row. Returns (P, C), all in float64."""
    _, rows, cols, _ = grids.shape
    low = np.minimum(np.floor(at).astype(int), [cols - 2, rows - 2])
    right, down = (at - low).T[:, :, None]
    col, row = low.T
    top = grids[view, row, col] * (1 - right) + grids[view, row, col + 1] * right
    bottom = grids[view, row + 1, col] * (1 - right) + grids[view, row + 1, col + 1] * right
    out: np.ndarray = top * (1 - down) + bottom * down
    return out

"""The costly part of the embedding, a block at a time: two linear maps of every neighbour, then their maximum.

A point has 16 neighbours. Done at once, this would hold several tensors of (16 P, C). Here a block of points meets
its neighbours one after the other. Only the maximum and the number of its neighbour (the *giver*) are kept, (P, C) each.
The backward computes the hidden values again, which costs little next to the second map.

Of the 16 values of a point and channel, only the largest has a gradient. On a CPU the backward leaves out the other 15.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 25}
"""Elements of a block's (points, C) tensors: on a CPU a few of them fit the second-level cache."""
HIDDEN_ELEMENTS = 1 << 19
"""Elements of a block's hidden values (points K, C) where the backward treats all K at once."""

SUMMED = (torch.float64, torch.float32, torch.bfloat16)
"""Types in which torch has weighted sums of rows on a CPU that keep their digits."""


def neighbour_max(rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor) -> Tensor:
    """max over k of linear_out(relu(linear_in(rows[:, k]))); the first of equals takes the gradient.

    rows: (in, K, P), channels first: a matrix of very few columns is slow to multiply. weight_in: (C, in). bias_in: (C,).
    weight_out: (C, C), without a bias. Returns (P, C), in the type of autocast where that is on, as for any linear map.
    """
    device_type, dtype = rows.device.type, rows.dtype
    if torch.is_autocast_enabled(device_type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device_type)
    cast = (tensor.to(dtype) for tensor in (rows, weight_in, bias_in, weight_out))
    out: Tensor = _NeighbourMax.apply(*cast)  # (P, C)
    return out


class _NeighbourMax(torch.autograd.Function):
    """`neighbour_max` of tensors that all have one type."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor) -> Tensor:
        _, count, points = rows.shape
        best = rows.new_empty(points, len(bias_in))  # (P, C)
        # The neighbour that gave the maximum, as a number of the same type: on a CPU a comparison that answers
        # in the type of its operands is several times faster than one that answers in booleans to be converted.
        giver = torch.zeros_like(best)  # (P, C)
        for part in _blocks(best):
            block_best, block_giver = best[part], giver[part]  # (block, C)
            for k in range(count):
                hidden = torch.addmm(bias_in, rows[:, k, part].t(), weight_in.t()).relu_()  # (block, C)
                value = hidden @ weight_out.t()  # (block, C)
                if k == 0:
                    block_best.copy_(value)
                    continue
                leads = torch.gt(value, block_best, out=torch.empty_like(value)).mul_(k)  # (block, C), k or 0
                torch.maximum(block_giver, leads, out=block_giver)  # k only grows: the last to lead stays
                torch.maximum(block_best, value, out=block_best)
        ctx.save_for_backward(rows, weight_in, bias_in, weight_out, giver)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        saved = ctx.saved_tensors
        rows = saved[0]
        alone = rows.device.type == "cpu" and rows.dtype in SUMMED and rows.shape[1] <= 256
        return (_backward_of_givers if alone else _backward_of_all)(grad_out, *saved)


def _backward_of_givers(
    grad_out: Tensor, rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor, giver: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sums of few rows, instead of products with matrices of which 15 of 16 numbers are 0."""
    _, count, points = rows.shape
    grad_rows = torch.empty_like(rows)  # (in, K, P)
    exact = torch.promote_types(rows.dtype, torch.float32)
    grad_weight_in = torch.zeros_like(weight_in.t(), dtype=exact)  # (in, C)
    grad_bias_in = torch.zeros_like(bias_in, dtype=exact)  # (C,)
    grad_weight_out = torch.zeros_like(weight_out, dtype=exact)  # (C, C)
    giver = giver.to(torch.uint8)  # (P, C)
    step = max(1, HIDDEN_ELEMENTS // (count * len(bias_in)))
    for start in range(0, points, step):
        part = slice(start, start + step)
        grad_part, giver_part = grad_out[part], giver[part]  # (block, C)
        near = rows[:, :, part].transpose(1, 2).flatten(1)  # (in, block K), a point's neighbours side by side
        hidden = torch.addmm(bias_in, near.t(), weight_in.t()).relu_()  # (block K, C)
        first = torch.arange(0, len(grad_part) * count, count).unsqueeze(1)  # (block, 1)
        # Row c of the second map's gradient sums, over the points, the hidden values of each point's giver in c.
        grad_weight_out += F.embedding_bag(
            (giver_part + first).t().contiguous(),
            hidden,
            mode="sum",
            per_sample_weights=grad_part.t().contiguous(),
        )
        # A neighbour's gradient sums the rows of the second map in whose channels that neighbour is the giver.
        channels = torch.from_numpy(np.argsort(giver_part.numpy(), axis=1, kind="stable"))  # (block, C)
        ends = torch.bincount((giver_part + first).flatten(), minlength=len(hidden)).cumsum(0)  # (block K,)
        grad_hidden = F.embedding_bag(
            channels.flatten(),
            weight_out,
            torch.cat((ends.new_zeros(1), ends)),
            mode="sum",
            per_sample_weights=grad_part.gather(1, channels).flatten(),
            include_last_offset=True,
        )  # (block K, C)
        grad_hidden = torch.ops.aten.threshold_backward(grad_hidden, hidden, 0)
        grad_weight_in += near @ grad_hidden
        grad_bias_in += grad_hidden.sum(0)
        grad_rows[:, :, part] = (weight_in.t() @ grad_hidden.t()).unflatten(1, (-1, count)).transpose(1, 2)
    dtype = rows.dtype
    return grad_rows, grad_weight_in.t().to(dtype), grad_bias_in.to(dtype), grad_weight_out.to(dtype)


def _backward_of_all(
    grad_out: Tensor, rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor, giver: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One neighbour of all points after the other."""
    channels_in, count, _ = rows.shape
    exact = torch.promote_types(rows.dtype, torch.float32)
    grad_rows = torch.empty_like(rows)  # (in, K, P)
    grad_weight_in = weight_in.new_zeros((channels_in, len(bias_in)), dtype=exact)  # (in, C)
    grad_bias_in = torch.zeros_like(bias_in, dtype=exact)  # (C,)
    grad_weight_out = torch.zeros_like(weight_out, dtype=exact)  # (C, C)
    for part in _blocks(grad_out):
        for k in range(count):
            near = rows[:, k, part]  # (in, block)
            hidden = torch.addmm(bias_in, near.t(), weight_in.t()).relu_()  # (block, C)
            grad_value = torch.eq(giver[part], k, out=torch.empty_like(hidden)).mul_(
                grad_out[part]
            )  # (block, C)
            grad_weight_out += grad_value.t() @ hidden
            grad_hidden = torch.ops.aten.threshold_backward(grad_value @ weight_out, hidden, 0)  # (block, C)
            grad_weight_in += near @ grad_hidden
            grad_bias_in += grad_hidden.sum(0)
            grad_rows[:, k, part] = weight_in.t() @ grad_hidden.t()
    dtype = rows.dtype
    return grad_rows, grad_weight_in.t().to(dtype), grad_bias_in.to(dtype), grad_weight_out.to(dtype)


def _blocks(values: Tensor) -> list[slice]:
    """Runs of points to treat together. values: (P, C)."""
    points, channels = values.shape
    step = max(1, BLOCK_ELEMENTS.get(values.device.type, BLOCK_ELEMENTS["cuda"]) // channels)
    return [slice(start, start + step) for start in range(0, points, step)]

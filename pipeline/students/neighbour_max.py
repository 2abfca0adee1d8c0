"""The costly part of the embedding, a block at a time: two linear maps of every neighbour, then their maximum.

A point has 16 neighbours, so done at once this holds several tensors of (16 P, C). Here a block of points meets
its neighbours one after the other: only the maximum and who gave it are kept, (P, C) each, and the backward
computes the hidden values again, which costs little next to the second map.

Of the 16 values of a point and channel one alone has a gradient. On a CPU the backward leaves the other 15 out.
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

    rows: (in, K, P), channels first: a matrix of very few columns is slow to multiply. weight_in: (C, in). bias_in: (C,). weight_out: (C, C), without a bias. Returns (P, C), in
    the type of autocast where that is on, as for any linear map.
    """
    kind, dtype = rows.device.type, rows.dtype
    if torch.is_autocast_enabled(kind) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        saved = ctx.saved_tensors
        rows = saved[0]
        alone = rows.device.type == "cpu" and rows.dtype in SUMMED and rows.shape[1] <= 256
        return (_backward_of_givers if alone else _backward_of_all)(grad, *saved)


def _backward_of_givers(
    grad: Tensor, rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor, giver: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sums of few rows in the place of products with matrices of which 15 of 16 numbers are 0."""
    _, count, points = rows.shape
    of_rows = torch.empty_like(rows)  # (in, K, P)
    exact = torch.promote_types(rows.dtype, torch.float32)
    of_in = torch.zeros_like(weight_in.t(), dtype=exact)  # (in, C)
    of_bias = torch.zeros_like(bias_in, dtype=exact)  # (C,)
    of_out = torch.zeros_like(weight_out, dtype=exact)  # (C, C)
    giver = giver.to(torch.uint8)  # (P, C)
    step = max(1, HIDDEN_ELEMENTS // (count * len(bias_in)))
    for start in range(0, points, step):
        part = slice(start, start + step)
        given, by = grad[part], giver[part]  # (block, C)
        near = rows[:, :, part].transpose(1, 2).flatten(1)  # (in, block K), a point's neighbours side by side
        hidden = torch.addmm(bias_in, near.t(), weight_in.t()).relu_()  # (block K, C)
        first = torch.arange(0, len(given) * count, count).unsqueeze(1)  # (block, 1)
        # Row c of the second map's gradient: of each point the hidden values of its giver in c.
        of_out += F.embedding_bag(
            (by + first).t().contiguous(), hidden, mode="sum", per_sample_weights=given.t().contiguous()
        )
        # And a neighbour's: the rows of the second map in whose channels it is the giver.
        channels = torch.from_numpy(np.argsort(by.numpy(), axis=1, kind="stable"))  # (block, C)
        ends = torch.bincount((by + first).flatten(), minlength=len(hidden)).cumsum(0)  # (block K,)
        of_hidden = F.embedding_bag(
            channels.flatten(),
            weight_out,
            torch.cat((ends.new_zeros(1), ends)),
            mode="sum",
            per_sample_weights=given.gather(1, channels).flatten(),
            include_last_offset=True,
        )  # (block K, C)
        of_hidden = torch.ops.aten.threshold_backward(of_hidden, hidden, 0)
        of_in += near @ of_hidden
        of_bias += of_hidden.sum(0)
        of_rows[:, :, part] = (weight_in.t() @ of_hidden.t()).unflatten(1, (-1, count)).transpose(1, 2)
    dtype = rows.dtype
    return of_rows, of_in.t().to(dtype), of_bias.to(dtype), of_out.to(dtype)


def _backward_of_all(
    grad: Tensor, rows: Tensor, weight_in: Tensor, bias_in: Tensor, weight_out: Tensor, giver: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One neighbour of all points after the other."""
    channels_in, count, _ = rows.shape
    exact = torch.promote_types(rows.dtype, torch.float32)
    of_rows = torch.empty_like(rows)  # (in, K, P)
    of_in = weight_in.new_zeros((channels_in, len(bias_in)), dtype=exact)  # (in, C)
    of_bias = torch.zeros_like(bias_in, dtype=exact)  # (C,)
    of_out = torch.zeros_like(weight_out, dtype=exact)  # (C, C)
    for part in _blocks(grad):
        for k in range(count):
            near = rows[:, k, part]  # (in, block)
            hidden = torch.addmm(bias_in, near.t(), weight_in.t()).relu_()  # (block, C)
            of_value = torch.eq(giver[part], k, out=torch.empty_like(hidden)).mul_(grad[part])  # (block, C)
            of_out += of_value.t() @ hidden
            of_hidden = torch.ops.aten.threshold_backward(of_value @ weight_out, hidden, 0)  # (block, C)
            of_in += near @ of_hidden
            of_bias += of_hidden.sum(0)
            of_rows[:, k, part] = weight_in.t() @ of_hidden.t()
    dtype = rows.dtype
    return of_rows, of_in.t().to(dtype), of_bias.to(dtype), of_out.to(dtype)


def _blocks(values: Tensor) -> list[slice]:
    """Runs of points to treat together. values: (P, C)."""
    points, channels = values.shape
    step = max(1, BLOCK_ELEMENTS.get(values.device.type, BLOCK_ELEMENTS["cuda"]) // channels)
    return [slice(start, start + step) for start in range(0, points, step)]

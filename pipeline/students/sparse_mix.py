"""WaffleIron's spatial mix on the occupied cells alone: the same numbers as on the dense plane, to rounding.

    mean of the rows of each occupied cell       (O, C)
    first convolution, at the cells D around O   (D, C)    bias and activation act there as on the dense plane
    second convolution, at O                     (O, C)    its 3x3 reads lie in D, or off the plane: zero
    back to the rows                             (P, C)

With m the means and taps numbered as in `sparse_plane`, the two convolutions are transposes of each other
but for their weights: `_spread` takes cells of O to D, `_collect` cells of D to O, and each is the other's
backward. Both only read, in a fixed order: no atomics, the same bits every time.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.students.sparse_plane import TAPS, SparsePlane

Activation = Literal["relu", "gelu"]

SPREAD_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Most elements of the (9 O, channels) products that `_spread` holds at once; more are done in slices of C. On a
CPU a larger piece of memory is fetched from the system anew in every call, which takes longer than its use."""


def sparse_mix(
    rows: Tensor,
    features: Tensor,
    plane: SparsePlane,
    conv_in: nn.Conv2d,
    conv_out: nn.Conv2d,
    scale: Tensor,
    activation: Activation,
    mask: Tensor | None,
) -> Tensor:
    """features + mask * scale * gather(conv_out(act(conv_in(mean per cell(rows))))).

    rows, features: (P, C). conv_in, conv_out: depthwise 3x3, C channels. scale: (C,). mask: (P,), the same
    for all rows of a cloud, or None for 1. Returns (P, C), in float32 where that is longer than the rows'
    type: sums over cells and taps are not left to the short types of autocast.
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    means = _CellSums.apply(rows.to(dtype), plane) * plane.weight  # (O, C)
    # A convolution reads tap t where a transposed one writes tap 8 - t; LayerScale acts on few numbers here.
    taps_in = _taps(conv_in).flip(0).to(dtype)  # (9, C)
    taps_out = (_taps(conv_out) * scale).to(dtype)  # (9, C)
    bias_in, bias_out = _bias(conv_in).to(dtype), (_bias(conv_out) * scale).to(dtype)  # (C,)
    mixed = _TwoConvolutions.apply(means, taps_in, bias_in, taps_out, bias_out, plane, activation)  # (O, C)
    if mask is not None:
        one_row = plane.order.index_select(0, plane.starts[:-1])  # (O,), a row of each cell
        mixed = mixed * mask.index_select(0, one_row).unsqueeze(1)
    out: Tensor = _AddToRows.apply(features, mixed, plane)  # (P, C)
    return out


class _CellSums(torch.autograd.Function):
    """Sum of the rows of each occupied cell: (P, C) to (O, C)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, plane: SparsePlane) -> Tensor:
        ctx.plane = plane
        return _sums(rows, plane.order, plane.starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.plane.cell), None


class _AddToRows(torch.autograd.Function):
    """Add to each row what its cell holds: features (P, C) + cells (O, C) at each row's cell."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, cells: Tensor, plane: SparsePlane) -> Tensor:
        ctx.plane, ctx.dtypes = plane, (features.dtype, cells.dtype)
        gathered = cells.index_select(0, plane.cell)  # (P, C)
        if torch.promote_types(features.dtype, cells.dtype) == cells.dtype:
            return gathered.add_(features)
        return gathered + features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        of_features, of_cells = ctx.dtypes
        return grad.to(of_features), _sums(grad, ctx.plane.order, ctx.plane.starts).to(of_cells), None


class _TwoConvolutions(torch.autograd.Function):
    """Two depthwise 3x3 convolutions with an activation between: cells (O, C) to (O, C).

    taps_in, taps_out: (9, C), weights of the pairs (occupied cell, cell of D at tap u of it); the first
    convolution's are its kernel turned by half a turn. bias_in, bias_out: (C,).
    """

    @staticmethod
    def forward(
        ctx: Any,
        cells: Tensor,
        taps_in: Tensor,
        bias_in: Tensor,
        taps_out: Tensor,
        bias_out: Tensor,
        plane: SparsePlane,
        activation: Activation,
    ) -> Tensor:
        before = _spread(cells, taps_in, plane).add_(bias_in)  # (D + 1, C)
        out = _collect(_activate(before, activation), taps_out, plane).add_(bias_out)  # (O, C)
        ctx.save_for_backward(cells, taps_in, taps_out, before)
        ctx.plane, ctx.activation = plane, activation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cells, taps_in, taps_out, before = ctx.saved_tensors
        plane: SparsePlane = ctx.plane
        # The hidden values are computed a second time rather than kept: one cheap pass, D C numbers saved.
        of_taps_out = torch.empty_like(taps_out)  # (9, C)
        hidden = _activate(before, ctx.activation)  # (D + 1, C)
        for u, column in enumerate(plane.table):
            torch.sum(hidden.index_select(0, column).mul_(grad), 0, out=of_taps_out[u])
        # The spread's last row has no pairs and is 0: nothing flows into the row that is off the plane.
        of_before = _activate_backward(_spread(grad, taps_out, plane), before, ctx.activation)  # (D + 1, C)
        of_taps_in = torch.empty_like(taps_in)  # (9, C)
        of_cells = torch.zeros_like(cells)  # (O, C)
        for u, column in enumerate(plane.table):
            read = of_before.index_select(0, column)  # (O, C)
            of_cells.addcmul_(read, taps_in[u])
            torch.sum(read.mul_(cells), 0, out=of_taps_in[u])
        return of_cells, of_taps_in, of_before.sum(0), of_taps_out, grad.sum(0), None, None


def _spread(cells: Tensor, taps: Tensor, plane: SparsePlane) -> Tensor:
    """At each cell of D, the sum of the occupied cells next to it, each times the tap that leads there.

    cells: (O, C). taps: (9, C). Returns (D + 1, C); the last row, off the plane, is 0.
    """
    occupied, channels = cells.shape
    # Writing all 9 O products and summing those of each cell beats 9 gathers of D rows: most cells of D have
    # few occupied neighbours (3 of 9 on the plane seen from above).
    most = SPREAD_ELEMENTS.get(cells.device.type, SPREAD_ELEMENTS["cuda"])
    step = max(1, min(channels, most // max(1, TAPS * occupied)))
    slices = [
        _sums((part.unsqueeze(1) * taps_part).flatten(0, 1), plane.mirror, plane.mirror_starts)
        for part, taps_part in zip(cells.split(step, 1), taps.split(step, 1), strict=True)
    ]
    return slices[0] if len(slices) == 1 else torch.cat(slices, 1)


def _collect(dilated: Tensor, taps: Tensor, plane: SparsePlane) -> Tensor:
    """At each occupied cell, the sum of the cells of D at its taps, each times that tap.

    dilated: (D + 1, C), the last row 0. taps: (9, C). Returns (O, C).
    """
    out = dilated.new_zeros(plane.table.shape[1], dilated.shape[1])  # (O, C)
    for column, tap in zip(plane.table, taps, strict=True):
        out.addcmul_(dilated.index_select(0, column), tap)
    return out


def _activate(before: Tensor, activation: Activation) -> Tensor:
    """The hidden cells. before: (D + 1, C). Returns (D + 1, C)."""
    hidden = F.relu(before) if activation == "relu" else F.gelu(before)
    hidden[-1] = 0  # off the plane the second convolution reads padding, not an activated bias
    return hidden


def _activate_backward(grad: Tensor, before: Tensor, activation: Activation) -> Tensor:
    """grad times the activation's slope. grad, before: (D + 1, C). Returns (D + 1, C)."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, before, 0)
    return torch.ops.aten.gelu_backward(grad, before)


def _sums(rows: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    """Sums of rows[index[starts[i]:starts[i + 1]]]. rows: (n, C). starts: (m + 1,). Returns (m, C)."""
    # Detached: for a tensor that wants a gradient it would also prepare a backward that nobody calls.
    return F.embedding_bag(index, rows.detach(), starts, mode="sum", include_last_offset=True)


def _taps(conv: nn.Conv2d) -> Tensor:
    """The weights (C, 1, 3, 3) of a depthwise convolution as (9, C)."""
    # Contiguous: a view with columns in rows' place makes everything it multiplies three times slower.
    return conv.weight.flatten(1).t().contiguous()


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("the convolutions of a spatial mix have a bias")
    return conv.bias

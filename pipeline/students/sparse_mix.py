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

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.students.normalised import normalised, normalised_backward
from pipeline.students.sparse_plane import TAPS, SparsePlane


class Steps(NamedTuple):
    """The parts of a spatial mix, each with a backward of its own."""

    cell_sums: Callable[..., Tensor]
    normalised_cell_sums: Callable[..., tuple[Tensor, Tensor]]
    two_convolutions: Callable[..., Tensor]
    add_to_rows: Callable[..., Tensor]


Activation = Literal["relu", "gelu"]

AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Most elements of the products of cells and taps that are held at once; more are done in slices. On a CPU a larger
piece of memory leaves the cache before it is used."""


def sparse_mix(
    features: Tensor,
    norm: nn.Module,
    plane: SparsePlane,
    conv_in: nn.Conv2d,
    conv_out: nn.Conv2d,
    scale: Tensor,
    activation: Activation,
    mask: Tensor | None,
    steps: Steps | None = None,
) -> Tensor:
    """features + mask * scale * gather(conv_out(act(conv_in(mean per cell(norm(features)))))).

    features: (P, C). conv_in, conv_out: depthwise 3x3, C channels. scale: (C,). mask: (P,), the same
    for all rows of a cloud, or None for 1. Returns (P, C), in float32 where that is longer than the features'
    type: sums over cells and taps are not left to the short types of autocast. steps: what does the work, by
    default torch's own operations.
    """
    steps = steps or TORCH
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    dtype = features.dtype
    if isinstance(norm, nn.LayerNorm):
        # Scale and shift are the same for all rows: they act on the sums, which are fewer.
        features, sums = steps.normalised_cell_sums(features, plane.cell, plane.order, plane.starts, norm.eps)
        means = torch.addcmul(plane.share * norm.bias, sums * plane.weight, norm.weight)  # (O, C)
    else:
        sums = steps.cell_sums(norm(features).to(dtype), plane.cell, plane.order, plane.starts)  # (O, C)
        means = sums * plane.weight  # (O, C)
    # A convolution reads tap t where a transposed one writes tap 8 - t; LayerScale acts on few numbers here.
    taps_in = _taps(conv_in).flip(0).to(dtype)  # (9, C)
    taps_out = (_taps(conv_out) * scale).to(dtype)  # (9, C)
    bias_in, bias_out = _bias(conv_in).to(dtype), (_bias(conv_out) * scale).to(dtype)  # (C,)
    mixed = steps.two_convolutions(
        means,
        taps_in,
        bias_in,
        taps_out,
        bias_out,
        plane.table,
        plane.back,
        plane.mirror,
        plane.mirror_starts,
        activation,
    )  # (O, C)
    if mask is not None:
        first_row = plane.order.index_select(0, plane.starts[:-1])  # (O,), a row of each cell
        mixed = mixed * mask.index_select(0, first_row).unsqueeze(1)
    out: Tensor = steps.add_to_rows(features, mixed, plane.cell, plane.order, plane.starts)  # (P, C)
    return out


class _CellSums(torch.autograd.Function):
    """Sum of the rows of each occupied cell: (P, C) to (O, C)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cell: Tensor, order: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(cell)
        return _sums(rows, order, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        (cell,) = ctx.saved_tensors
        return grad_sums.index_select(0, cell), None, None, None


class _NormalisedCellSums(torch.autograd.Function):
    """Each row less its mean, over its deviation, as LayerNorm has it before scale and shift; summed by cell.

    features: (P, C). Returns them as they are and the sums (O, C): the two gradients of the features meet in one
    pass. The normalised rows are never kept.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, cell: Tensor, order: Tensor, starts: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        rows, mean, deviation = normalised(features, eps)  # (P, C), (P, 1), (P, 1)
        ctx.save_for_backward(features, mean, deviation, cell)
        return features.view_as(features), _sums(rows, order, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_features: Tensor, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        features, mean, deviation, cell = ctx.saved_tensors
        grad_rows = grad_sums.index_select(0, cell)  # (P, C)
        grad = normalised_backward(grad_rows, features, mean, deviation).add_(grad_features)
        return grad, None, None, None, None


class _AddToRows(torch.autograd.Function):
    """Add to each row what its cell holds: features (P, C) + cells (O, C) at each row's cell."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, cells: Tensor, cell: Tensor, order: Tensor, starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(order, starts)
        return plus(cells.index_select(0, cell), features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        order, starts = ctx.saved_tensors
        return grad_out, _sums(grad_out, order, starts), None, None, None


class _TwoConvolutions(torch.autograd.Function):
    """Two depthwise 3x3 convolutions with an activation between: cells (O, C) to (O, C).

    taps_in, taps_out: (9, C), weights of the pairs (occupied cell, cell of D at tap u of it); the first
    convolution's are its kernel turned by half a turn. bias_in, bias_out: (C,). The rest as in `SparsePlane`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cells: Tensor,
        taps_in: Tensor,
        bias_in: Tensor,
        taps_out: Tensor,
        bias_out: Tensor,
        table: Tensor,
        back: Tensor,
        mirror: Tensor,
        mirror_starts: Tensor,
        activation: Activation,
    ) -> Tensor:
        before = _spread(cells, taps_in, back, mirror, mirror_starts).add_(bias_in)  # (D + 1, C)
        out = plus(_collect(_activate(before, activation), taps_out, table), bias_out)  # (O, C)
        ctx.save_for_backward(cells, taps_in, taps_out, before, table, back, mirror, mirror_starts)
        ctx.activation = activation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        cells, taps_in, taps_out, before, table, back, mirror, mirror_starts = ctx.saved_tensors
        # The hidden values are computed a second time rather than kept: one cheap pass, D C numbers saved.
        hidden = _activate(before, ctx.activation)  # (D + 1, C)
        grad_taps_out = [read.mul_(grad_out).sum(1) for _, read in _read(hidden, table)]  # of (taps, C)
        # The spread's last row has no pairs and is 0: nothing flows into the row that is off the plane.
        grad_before = _spread(grad_out, taps_out, back, mirror, mirror_starts)  # (D + 1, C)
        grad_before = _activate_backward(grad_before, before, ctx.activation)
        grad_cells, grad_taps_in = torch.zeros_like(cells), []  # (O, C), of (taps, C)
        for part, read in _read(grad_before, table):
            _add_products(grad_cells, read, taps_in[part])
            grad_taps_in.append(read.mul_(cells).sum(1))
        return (
            grad_cells,
            torch.cat(grad_taps_in),
            grad_before.sum(0),
            torch.cat(grad_taps_out),
            grad_out.sum(0),
            None,
            None,
            None,
            None,
            None,
        )


def plus(new: Tensor, other: Tensor) -> Tensor:
    """new + other, in the memory of `new`, as the last step of a forward; under torch.compile in memory of its own.

    torch 2.11 compiles a `Function` whose result was changed in place into wrong gradients, without a word
    (pytorch issue 180642). There nothing is lost: the sum is part of what computes `new`.
    """
    return new + other if torch.compiler.is_compiling() else new.add_(other)


def _spread(cells: Tensor, taps: Tensor, back: Tensor, mirror: Tensor, mirror_starts: Tensor) -> Tensor:
    """At each cell of D, the sum of the occupied cells next to it, each times the tap that leads there.

    cells: (O, C). taps: (9, C). Returns (D + 1, C); the last row, off the plane, is 0.
    """
    occupied, channels = cells.shape
    if torch.compiler.is_compiling():
        # One kernel that reads up to 9 rows for each that it writes; nothing between is ever written.
        out = cells.new_zeros(back.shape[1], channels)  # (D + 1, C)
        for column, tap in zip(back, taps, strict=True):
            product = cells.index_select(0, column.clamp(max=occupied - 1)) * tap  # (D + 1, C)
            out = out + product * (column < occupied).unsqueeze(1)
        return out
    # Writing all 9 O products and summing those of each cell beats 9 gathers of D rows: most cells of D have
    # few occupied neighbours (3 of 9 on the plane seen from above).
    step = max(1, min(channels, _at_once(cells) // max(1, TAPS * occupied)))
    slices = [
        _sums((part.unsqueeze(1) * taps_part).flatten(0, 1), mirror, mirror_starts)
        for part, taps_part in zip(cells.split(step, 1), taps.split(step, 1), strict=True)
    ]
    return slices[0] if len(slices) == 1 else torch.cat(slices, 1)


def _collect(dilated: Tensor, taps: Tensor, table: Tensor) -> Tensor:
    """At each occupied cell, the sum of the cells of D at its taps, each times that tap.

    dilated: (D + 1, C), the last row 0. taps: (9, C). Returns (O, C).
    """
    out = dilated.new_zeros(table.shape[1], dilated.shape[1])  # (O, C)
    for part, read in _read(dilated, table):
        _add_products(out, read, taps[part])
    return out


def _read(dilated: Tensor, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """What each occupied cell finds at its taps, as many taps at a time as fit: taps, values (taps, O, C)."""
    occupied, channels = table.shape[1], dilated.shape[1]
    step = max(1, min(TAPS, _at_once(dilated) // max(1, occupied * channels)))
    if torch.compiler.is_compiling():
        step = 1  # the products are never written
    for start in range(0, TAPS, step):
        part = slice(start, min(start + step, TAPS))
        yield part, dilated.index_select(0, table[part].flatten()).view(part.stop - start, occupied, channels)


def _add_products(out: Tensor, read: Tensor, taps: Tensor) -> None:
    """out (O, C) += the sum of read (taps, O, C) * taps (taps, C); `read` is not changed."""
    if len(taps) == 1:
        out.addcmul_(read[0], taps[0])
    else:
        out += (read * taps.unsqueeze(1)).sum(0)


def _at_once(values: Tensor) -> int:
    return AT_ONCE.get(values.device.type, AT_ONCE["cuda"])


def _activate(before: Tensor, activation: Activation) -> Tensor:
    """The hidden cells. before: (D + 1, C). Returns (D + 1, C)."""
    hidden = F.relu(before) if activation == "relu" else F.gelu(before)
    hidden[-1] = 0  # off the plane the second convolution reads padding, not an activated bias
    return hidden


def _activate_backward(grad_hidden: Tensor, before: Tensor, activation: Activation) -> Tensor:
    """grad_hidden times the activation's slope. grad_hidden, before: (D + 1, C). Returns (D + 1, C)."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad_hidden, before, 0)
    return torch.ops.aten.gelu_backward(grad_hidden, before)


def _sums(rows: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    """Sums of rows[index[starts[i]:starts[i + 1]]]. rows: (n, C). starts: (m + 1,). Returns (m, C)."""
    # Detached: for a tensor that wants a gradient, torch would also prepare a backward, which is never called.
    return F.embedding_bag(index, rows.detach(), starts, mode="sum", include_last_offset=True)


def _taps(conv: nn.Conv2d) -> Tensor:
    """The weights (C, 1, 3, 3) of a depthwise convolution as (9, C)."""
    # Contiguous: a view with columns in rows' place makes everything it multiplies three times slower.
    return conv.weight.flatten(1).t().contiguous()


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("the convolutions of a spatial mix have a bias")
    return conv.bias


TORCH = Steps(_CellSums.apply, _NormalisedCellSums.apply, _TwoConvolutions.apply, _AddToRows.apply)

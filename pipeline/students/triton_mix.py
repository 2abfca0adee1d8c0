"""The spatial mix of `sparse_mix` by kernels of our own: the same sums, in fewer passes over memory.

Against torch's operations the normalised rows, the products of cells and taps and the activated cells are never
written. Tested on a CPU in triton's interpreter, and compiled there for NVIDIA GPUs; not yet measured on one.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.students import triton_kernels as kernels
from pipeline.students.sparse_mix import Steps
from pipeline.students.sparse_plane import TAPS

WIDEST = 128
"""Channels that one program treats where it need not see a whole row."""

CELLS_OF_A_PART = 128
"""Occupied cells over which one program sums the gradients of a tap."""

KINDS = {"relu": kernels.RELU, "gelu": kernels.GELU}


class CellSums(torch.autograd.Function):
    """As `sparse_mix._CellSums`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cell: Tensor, order: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(cell)
        return _sums(rows.contiguous(), order, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        (cell,) = ctx.saved_tensors
        return grad_sums.index_select(0, cell), None, None, None


class NormalisedCellSums(torch.autograd.Function):
    """As `sparse_mix._NormalisedCellSums`."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, cell: Tensor, order: Tensor, starts: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        features = features.contiguous()
        mean, deviation = features.new_empty(len(features)), features.new_empty(len(features))  # (P,)
        sums = _sums(features, order, starts, mean, deviation, eps)  # (O, C)
        ctx.save_for_backward(features, mean, deviation, cell)
        return features.view_as(features), sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_features: Tensor, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        features, mean, deviation, cell = ctx.saved_tensors
        points, channels = features.shape
        out = torch.empty_like(features)  # (P, C)
        if points:
            kernels.normalised_rows_backward[(points,)](
                grad_sums.contiguous(),
                grad_features.contiguous(),
                features,
                mean,
                deviation,
                cell,
                out,
                channels,
                BLOCK=triton.next_power_of_2(channels),
            )
        return out, None, None, None, None


class AddToRows(torch.autograd.Function):
    """As `sparse_mix._AddToRows`."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, cells: Tensor, cell: Tensor, order: Tensor, starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(order, starts)
        features, cells = features.contiguous(), cells.contiguous()
        out = torch.empty_like(features)  # (P, C)
        points, channels = features.shape
        if points:
            grid, block = _grid(points, channels)
            kernels.add_to_rows[grid](features, cells, cell, out, channels, BLOCK=block)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        order, starts = ctx.saved_tensors
        return grad_out, _sums(grad_out.contiguous(), order, starts), None, None, None


class TwoConvolutions(torch.autograd.Function):
    """As `sparse_mix._TwoConvolutions`."""

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
        activation: str,
    ) -> Tensor:
        cells, kind = cells.contiguous(), KINDS[activation]
        before = _spread(cells, taps_in, back, bias=bias_in)  # (D, C)
        out = _collect(before, taps_out, table, kind, bias_out)  # (O, C)
        ctx.save_for_backward(cells, taps_in, taps_out, before, table, back)
        ctx.kind = kind
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        cells, taps_in, taps_out, before, table, back = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad_taps_out = _tap_gradients(before, grad_out, table, ctx.kind)  # (9, C)
        grad_before = _spread(grad_out, taps_out, back, before=before, kind=ctx.kind)  # (D, C)
        grad_cells = _collect(grad_before, taps_in, table, kernels.NONE, None)  # (O, C)
        grad_taps_in = _tap_gradients(grad_before, cells, table, kernels.NONE)  # (9, C)
        grads = grad_cells, grad_taps_in, grad_before.sum(0), grad_taps_out, grad_out.sum(0)
        return *grads, None, None, None, None, None


def _sums(
    rows: Tensor,
    order: Tensor,
    starts: Tensor,
    mean: Tensor | None = None,
    deviation: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Sums of the rows (P, C) of each cell (O, C); of normalised rows where `mean` and `deviation` (P,) are wanted."""
    cells, channels = len(starts) - 1, rows.shape[1]
    out = rows.new_empty(cells, channels)  # (O, C)
    if cells:
        kernels.cell_sums[(cells,)](
            rows,
            order,
            starts,
            out,
            out if mean is None else mean,
            out if deviation is None else deviation,
            eps,
            channels,
            BLOCK=triton.next_power_of_2(channels),
            NORMALISE=mean is not None,
        )
    return out


def _spread(
    cells: Tensor,
    taps: Tensor,
    back: Tensor,
    bias: Tensor | None = None,
    before: Tensor | None = None,
    kind: int = kernels.NONE,
) -> Tensor:
    """Cells (O, C) at the cells of D (D, C): plus `bias` (C,), or times the slope at `before` (D, C)."""
    dilated, (occupied, channels) = back.shape[1] - 1, cells.shape
    out = cells.new_empty(dilated, channels)  # (D, C)
    if dilated:
        grid, block = _grid(dilated, channels)
        kernels.spread[grid](
            cells,
            taps,
            taps if bias is None else bias,
            out if before is None else before,
            back,
            out,
            occupied,
            dilated,
            channels,
            BLOCK=block,
            ACTIVATION=kind,
        )
    return out


def _collect(dilated: Tensor, taps: Tensor, table: Tensor, kind: int, bias: Tensor | None) -> Tensor:
    """Activated cells of D (D, C) at the occupied cells (O, C)."""
    occupied, channels = table.shape[1], dilated.shape[1]
    out = dilated.new_empty(occupied, channels)  # (O, C)
    if occupied:
        grid, block = _grid(occupied, channels)
        kernels.collect[grid](
            dilated,
            taps,
            taps if bias is None else bias,
            table,
            out,
            occupied,
            len(dilated),
            channels,
            BLOCK=block,
            ACTIVATION=kind,
            BIAS=bias is not None,
        )
    return out


def _tap_gradients(dilated: Tensor, cells: Tensor, table: Tensor, kind: int) -> Tensor:
    """Gradients (9, C) of taps that read the activated cells of D (D, C) for the occupied cells (O, C)."""
    occupied, channels = cells.shape
    parts = -(-occupied // CELLS_OF_A_PART)
    partial = cells.new_empty(parts, TAPS, channels)
    if parts:
        (_, columns), block = _grid(1, channels)
        kernels.tap_gradients[(parts, TAPS, columns)](
            dilated,
            cells,
            table,
            partial,
            occupied,
            len(dilated),
            channels,
            CELLS=CELLS_OF_A_PART,
            BLOCK=block,
            ACTIVATION=kind,
        )
    return partial.sum(0)


def _grid(rows: int, channels: int) -> tuple[tuple[int, int], int]:
    """Programs by rows and by runs of channels, and channels of a run."""
    block = min(WIDEST, triton.next_power_of_2(channels))
    return (rows, -(-channels // block)), block


TRITON = Steps(CellSums.apply, NormalisedCellSums.apply, TwoConvolutions.apply, AddToRows.apply)

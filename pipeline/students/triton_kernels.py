"""Kernels of the spatial mix for NVIDIA GPUs: every program writes rows of its own, and reads in a fixed order. No atomics.

Names as in `SparsePlane`: P rows lie in O occupied cells, around which lie D. Tensors are contiguous; sums are kept in
the type of what is written. Row numbers are 64 bits wide, so that no tensor is too large to address.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

NONE, RELU, GELU = 0, 1, 2
SIZES = ("OCCUPIED", "DILATED")
"""Another number in every batch. Triton would compile anew for those that 16 divides, and again for 1, in the middle of a
training; nothing that is read many at a time lies a multiple of them apart."""


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == 1:
        x = tl.maximum(x, 0.0)
    if ACTIVATION == 2:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    return x


@triton.jit
def slope(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == 1:
        out = tl.where(x > 0, 1.0, 0.0)
    else:
        chance = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        out = chance + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
    return out


@triton.jit
def cell_sums(
    rows, order, starts, out, mean, deviation, eps, C, BLOCK: tl.constexpr, NORMALISE: tl.constexpr
):
    """out (O, C): the sum of the rows (P, C) of a cell, a program each, a whole row at a time; where NORMALISE, of rows
    less their mean over their deviation, both of which are kept, (P,) each."""
    cell = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    real = channel < C
    first, last = tl.load(starts + cell), tl.load(starts + cell + 1)
    total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
    for place in range(first, last):
        row = tl.load(order + place)
        x = tl.load(rows + row * C + channel, mask=real, other=0.0).to(out.dtype.element_ty)
        if NORMALISE:
            middle = tl.sum(x, 0) / C
            x = tl.where(real, x - middle, 0.0)
            scale = 1.0 / tl.sqrt(tl.sum(x * x, 0) / C + eps)
            x = x * scale
            tl.store(mean + row, middle)
            tl.store(deviation + row, scale)
        total += x
    tl.store(out + cell * C + channel, total, mask=real)


@triton.jit
def normalised_rows_backward(
    grad_sums, grad_rest, rows, mean, deviation, cell_of_row, out, C, BLOCK: tl.constexpr
):
    """out (P, C): the gradient of `cell_sums` with NORMALISE, plus another gradient of the rows; a program a row."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    real = channel < C
    cell = tl.load(cell_of_row + row)
    grad = tl.load(grad_sums + cell * C + channel, mask=real, other=0.0)
    scale = tl.load(deviation + row)
    x = tl.load(rows + row * C + channel, mask=real, other=0.0)
    x = tl.where(real, (x - tl.load(mean + row)) * scale, 0.0)
    along = tl.sum(grad * x, 0) / C
    grad_row = (grad - tl.sum(grad, 0) / C - x * along) * scale
    rest = tl.load(grad_rest + row * C + channel, mask=real, other=0.0)
    tl.store(out + row * C + channel, grad_row + rest, mask=real)


@triton.jit
def add_to_rows(rows, cells, cell_of_row, out, C, BLOCK: tl.constexpr):
    """out (P, C): each row and what its cell holds."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = channel < C
    cell = tl.load(cell_of_row + row)
    own = tl.load(rows + row * C + channel, mask=real)
    from_cell = tl.load(cells + cell * C + channel, mask=real)
    tl.store(out + row * C + channel, own + from_cell, mask=real)


@triton.jit(do_not_specialize=SIZES)
def spread(
    cells, taps, bias, before, back, out, OCCUPIED, DILATED, C, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr
):
    """out (D, C): at each cell of D the occupied cells next to it, times the taps that lead there; plus a bias, or,
    given an activation, times its slope at `before` (D, C)."""
    place = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = channel < C
    total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
    for u in tl.static_range(9):
        cell = tl.load(back + u * (DILATED + 1) + place)
        value = tl.load(cells + cell * C + channel, mask=real & (cell < OCCUPIED), other=0.0)
        total += value * tl.load(taps + u * C + channel, mask=real, other=0.0)
    if ACTIVATION == 0:
        total += tl.load(bias + channel, mask=real, other=0.0)
    else:
        total *= slope(tl.load(before + place * C + channel, mask=real, other=0.0), ACTIVATION)
    tl.store(out + place * C + channel, total, mask=real)


@triton.jit(do_not_specialize=SIZES)
def collect(
    dilated,
    taps,
    bias,
    table,
    out,
    OCCUPIED,
    DILATED,
    C,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BIAS: tl.constexpr,
):
    """out (O, C): at each occupied cell the activated cells of D (D, C) at its taps, times those; plus a bias."""
    cell = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = channel < C
    total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
    for u in tl.static_range(9):
        place = tl.load(table + u * OCCUPIED + cell)
        # Activations give 0 for 0, so that nothing comes from off the plane.
        value = tl.load(dilated + place * C + channel, mask=real & (place < DILATED), other=0.0)
        total += activated(value, ACTIVATION) * tl.load(taps + u * C + channel, mask=real, other=0.0)
    if BIAS:
        total += tl.load(bias + channel, mask=real, other=0.0)
    tl.store(out + cell * C + channel, total, mask=real)


@triton.jit(do_not_specialize=SIZES)
def tap_gradients(
    dilated,
    cells,
    table,
    partial,
    OCCUPIED,
    DILATED,
    C,
    CELLS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """partial (parts, 9, C): of each tap, over CELLS occupied cells, the sum of the activated cell of D that the tap
    reads times what the occupied cell holds. Who calls sums over the parts."""
    part, u = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    real = channel < C
    total = tl.zeros((BLOCK,), dtype=partial.dtype.element_ty)
    for cell in range(part * CELLS, tl.minimum(part * CELLS + CELLS, OCCUPIED)):
        place = tl.load(table + u * OCCUPIED + cell)
        value = tl.load(dilated + place * C + channel, mask=real & (place < DILATED), other=0.0)
        total += activated(value, ACTIVATION) * tl.load(cells + cell * C + channel, mask=real, other=0.0)
    tl.store(partial + (part * 9 + u) * C + channel, total, mask=real)

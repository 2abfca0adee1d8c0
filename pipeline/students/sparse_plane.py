"""One plane of a batch, by its occupied cells: which cells hold points, which lie next to them, and which reads which.
All layers on this plane share it.

If only the occupied cells O matter in the end, two 3x3 convolutions in a row read and write few cells of a plane. The
second is needed at O. The first is needed at O and the cells around it (the dilation D of O, clipped to the plane), and it
reads zero wherever no point lies. Nothing here has the size of the plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TAPS = 9
"""Places of a 3x3 kernel, row by row; tap 8 - u lies opposite to tap u."""


@dataclass(frozen=True)
class SparsePlane:
    """O occupied cells and D cells in or around them, of all clouds of a batch, and P rows that lie there.

    `table` and `mirror` hold the same pairs (occupied cell, cell of D at tap u of it), once by occupied cell
    and once by cell of D, so that either side can sum over the other by reading alone: nothing is ever
    scattered, and sums always run in the same order.
    """

    cell: Tensor  # (P,) int64, the occupied cell of each row
    order: Tensor  # (P,) int64, the rows sorted by cell; a stable sort, so within a cell in their own order
    starts: Tensor  # (O + 1,) int64, the rows of cell o are order[starts[o]:starts[o + 1]]
    weight: Tensor  # (O, 1), 1 / (rows in the cell + epsilon)
    share: Tensor  # (O, 1), rows in the cell times weight: nearly 1
    table: (
        Tensor  # (9, O) int64, the cell of D at each tap of each occupied cell; D where that is off the plane
    )
    mirror: Tensor  # (E,) int64, pairs as 9 o + u, sorted by cell of D
    back: Tensor  # (9, D + 1) int64, the occupied cell whose tap u leads to each cell of D; O where there is none
    mirror_starts: Tensor  # (D + 2,) int64, as `starts`; row D stands for all that is off the plane: no pairs


def sparse_plane(
    cells: Tensor, cloud: Tensor, shape: tuple[int, int, int], dtype: torch.dtype, epsilon: float = 1e-6
) -> SparsePlane:
    """Lay the rows of all clouds on one plane, with weights of `dtype`, or of float32 where it is shorter.

    cells: (P,) int64, flat cell in the row's own cloud. cloud: (P,) int64. shape: clouds, height, width.
    """
    _, height, width = shape
    keys, order = torch.sort(cloud * (height * width) + cells, stable=True)  # (P,), (P,)
    occupied, place, counts = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)  # (O,)
    cell = torch.empty_like(place)  # (P,)
    cell[order] = place

    tap = torch.arange(TAPS, device=cells.device)  # (9,)
    dy, dx = tap // 3 - 1, tap % 3 - 1  # (9,)
    y = (occupied // width % height).unsqueeze(1) + dy  # (O, 9)
    x = (occupied % width).unsqueeze(1) + dx  # (O, 9)
    # A key off the left border is a cell of the row above, or of another cloud: such pairs must not exist.
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # (O, 9)
    pairs = inside.flatten().nonzero().squeeze(1)  # (E,)
    around = (occupied.unsqueeze(1) + (dy * width + dx)).flatten().index_select(0, pairs)  # (E,)

    around, by_key = torch.sort(around, stable=True)  # (E,)
    mirror = pairs.index_select(0, by_key)  # (E,)
    dilated, reached, readers = torch.unique_consecutive(around, return_inverse=True, return_counts=True)
    table = torch.full((inside.numel(),), dilated.numel(), device=cells.device)  # (O 9,) int64
    table[mirror] = reached
    back = torch.full(((dilated.numel() + 1) * TAPS,), occupied.numel(), device=cells.device)
    back[reached * TAPS + mirror % TAPS] = mirror // TAPS
    rows = counts.to(torch.promote_types(dtype, torch.float32)).unsqueeze(1)  # (O, 1)
    weight = 1 / (rows + epsilon)  # (O, 1)
    return SparsePlane(
        cell=cell,
        order=order,
        starts=_starts(counts),
        weight=weight,
        share=rows * weight,
        table=table.view(-1, TAPS).t().contiguous(),
        mirror=mirror,
        back=back.view(-1, TAPS).t().contiguous(),
        mirror_starts=_starts(torch.cat((readers, readers.new_zeros(1)))),
    )


def _starts(counts: Tensor) -> Tensor:
    """Where each run begins, and where the last one ends. counts: (n,) int64. Returns (n + 1,) int64."""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))

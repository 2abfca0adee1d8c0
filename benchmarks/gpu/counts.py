"""How many bytes and operations each kernel of the spatial mix needs: every input read once, every output written once.

Pure functions of sizes. `tests/benchmarks/test_gpu_counts.py` holds them against the addresses that the kernels touch in
triton's interpreter. Activations count as no operation; nor is deducted what a cell at a plane's border has less.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gpu.datasheets import Count
from pipeline.students.sparse_plane import TAPS
from pipeline.students.triton_mix import CELLS_OF_A_PART

INDEX = 8
"""Bytes of a row number."""


@dataclass(frozen=True)
class Laid:
    """How a batch lies on one plane: P points in O occupied cells, around which lie D, of all its clouds together."""

    points: float
    occupied: float
    dilated: float

    def __mul__(self, clouds: float) -> Laid:
        return Laid(self.points * clouds, self.occupied * clouds, self.dilated * clouds)


def cell_sums(laid: Laid, width: int, size: int, norm: bool) -> Count:
    """Sums of the rows of each cell. width: channels C. size: bytes of a number. norm: of normalised rows."""
    rows, cells = laid.points * width, laid.occupied * width
    kept = 2 * laid.points if norm else 0
    index = laid.points + laid.occupied + 1
    return Count((rows + cells + kept) * size + index * INDEX, other=rows * (6 if norm else 1))


def normalised_rows_backward(laid: Laid, width: int, size: int) -> Count:
    """The gradient of rows that were normalised and summed, plus another gradient of theirs."""
    rows, cells = laid.points * width, laid.occupied * width
    return Count((3 * rows + cells + 2 * laid.points) * size + laid.points * INDEX, other=10 * rows)


def add_to_rows(laid: Laid, width: int, size: int) -> Count:
    """Each row and what its cell holds."""
    rows, cells = laid.points * width, laid.occupied * width
    return Count((2 * rows + cells) * size + laid.points * INDEX, other=rows)


def spread(laid: Laid, width: int, size: int, backward: bool) -> Count:
    """Cells of O to cells of D, with a bias; backward: times the activation's slope at what the forward pass kept."""
    occupied, dilated = laid.occupied * width, laid.dilated * width
    beside = dilated if backward else width
    numbers = occupied + dilated + beside + TAPS * width
    return Count(numbers * size + TAPS * laid.dilated * INDEX, other=2 * TAPS * occupied + dilated)


def collect(laid: Laid, width: int, size: int, backward: bool) -> Count:
    """Activated cells of D to cells of O, with a bias; backward: neither activation nor bias."""
    occupied, dilated = laid.occupied * width, laid.dilated * width
    numbers = occupied + dilated + TAPS * width + (0 if backward else width)
    return Count(numbers * size + TAPS * laid.occupied * INDEX, other=2 * TAPS * occupied)


def tap_gradients(laid: Laid, width: int, size: int) -> Count:
    """The gradients of nine taps, over parts of the occupied cells."""
    occupied, dilated = laid.occupied * width, laid.dilated * width
    numbers = occupied + dilated + parts(laid) * TAPS * width
    return Count(numbers * size + TAPS * laid.occupied * INDEX, other=2 * TAPS * occupied)


def parts(laid: Laid) -> int:
    """Of which each sums the gradients of the taps for itself."""
    return -(-int(laid.occupied) // CELLS_OF_A_PART)


def kernels(laid: Laid, width: int, size: int) -> dict[str, Count]:
    """All kernels of one spatial mix with layer norm, by the name of the kernel and which way it goes."""
    return {
        "cell_sums": cell_sums(laid, width, size, norm=True),
        "spread": spread(laid, width, size, backward=False),
        "collect": collect(laid, width, size, backward=False),
        "add_to_rows": add_to_rows(laid, width, size),
        "cell_sums, backward": cell_sums(laid, width, size, norm=False),
        "tap_gradients, second convolution": tap_gradients(laid, width, size),
        "spread, backward": spread(laid, width, size, backward=True),
        "collect, backward": collect(laid, width, size, backward=True),
        "tap_gradients, first convolution": tap_gradients(laid, width, size),
        "normalised_rows_backward": normalised_rows_backward(laid, width, size),
    }

"""How many bytes and operations a layer, the embedding and the authors' planes need.

Twice: `least`, what no way of ordering the work can avoid, and `launched`, what the backend `triton` does today, operation by
operation, each reading its inputs and writing its output once. The first gives the floor; the second divided by the
first says what could be won by joining operations. `tests/benchmarks/test_gpu_layers.py` holds both against torch: what a
real layer keeps for its backward pass, and what each operation that it calls reads and writes.
"""

from __future__ import annotations

from benchmarks.gpu.counts import INDEX, Laid, kernels, parts
from benchmarks.gpu.datasheets import Count, Precision
from pipeline.students.packed import FEATURES
from pipeline.students.sparse_plane import TAPS

NEIGHBOURS = 16
INPUTS = len(FEATURES)
DIFFERENCES = 210
"""Bytes that are moved for each of the 80 numbers in which a point differs from its neighbours: their moments are summed
in float64, and each step of that is an operation of its own."""
FORWARD = ("cell_sums", "spread", "collect", "add_to_rows")


def kept(laid: Laid, width: int, precision: Precision) -> float:
    """Bytes that one layer keeps between its forward and its backward pass, less its input, which the layer before it
    has written anyway: means (O, C) and hidden cells (D, C); normalised rows and hidden values (P, C), in the type of
    the products; and three numbers a row."""
    cells = (laid.occupied + laid.dilated) * width
    return (cells + 3 * laid.points) * precision.rows + 2 * laid.points * width * precision.products


def least(laid: Laid, width: int, precision: Precision, backward: bool = True) -> Count:
    """One layer: its input and what is kept read once, its output and what is kept written once, each weight and each
    gradient once. backward: forward and backward together, else forward alone, which then keeps nothing."""
    rows = laid.points * width * precision.rows
    index = (2 * laid.points + TAPS * (laid.occupied + laid.dilated)) * INDEX
    weights = 2 * width**2 * precision.rows
    operations = launched(laid, width, precision, backward)
    total = sum(operations.values(), Count())
    moved = 2 * rows + index + weights
    if backward:
        moved += 3 * rows + index + 2 * weights + 2 * kept(laid, width, precision)
    return Count(moved, total.matrix, total.other)


def launched(laid: Laid, width: int, precision: Precision, backward: bool = True) -> dict[str, Count]:
    """One layer with layer norm and ReLU as `backend: triton` computes it: work by operation, in order."""
    size, short = precision.rows, precision.products
    cast = size + short if short != size else 0  # bytes for each number whose type changes
    sparse = kernels(laid, width, size)
    rows, square = laid.points * width, width**2
    cells, dilated = laid.occupied * width, laid.dilated * width
    product = 2 * rows * width
    out = {name: sparse[name] for name in FORWARD}
    out |= {
        "means from sums": Count(6 * cells * size, other=3 * cells),
        "weights": Count(5 * square * size + 2 * square * cast),
        "norm of rows": Count(rows * (2 * size + cast), other=6 * rows),
        "first product": Count((2 * rows + square) * short, product),
        "activation": Count(2 * rows * short),
        "second product": Count((2 * rows + square) * short, product),
        "added to rows": Count(rows * (short + 2 * size), other=rows),
    }
    if not backward:
        return out
    out |= {
        "gradient cast": Count(rows * cast),
        "second product, its weight": Count((2 * rows + square) * short, product),
        "second product, its bias": Count(rows * short, other=rows),
        "second product, its rows": Count((2 * rows + square) * short, product),
        "activation, backward": Count(3 * rows * short),
        "first product, its weight": Count((2 * rows + square) * short, product),
        "first product, its bias": Count(rows * short, other=rows),
        "first product, its rows": Count((2 * rows + square) * short, product),
        "norm of rows, backward": Count(rows * (3 * short + cast), other=8 * rows),
        "gradient added": Count(3 * rows * size, other=2 * rows),
        "weights, backward": Count(17 * square * size + 2 * square * cast),
    }
    out |= {name: count for name, count in sparse.items() if name not in FORWARD}
    out |= {
        "taps, sums of parts": Count(2 * (parts(laid) + 1) * TAPS * width * size),
        "biases of convolutions": Count((cells + dilated) * size, other=cells + dilated),
        "means from sums, backward": Count(13 * cells * size, other=7 * cells),
    }
    return out


def embedding_least(points: float, width: int, precision: Precision) -> Count:
    """The embedding, forward and backward. Of its (P, C) tensors it must write the output, and write and read the
    maxima and who gave them, and read the gradient of the output, all in the type of the products. Of the 16 products
    of a point and channel that have a gradient, 15 have the gradient zero."""
    rows = points * width
    moved = 6 * rows * precision.products
    second = 2 * rows * width * (NEIGHBOURS + 2)
    merge, point = 3 * 4 * rows * width, 3 * 2 * rows * INPUTS
    first = 4 * 2 * NEIGHBOURS * rows * INPUTS
    return Count(moved, second + merge + point + first)


def embedding_launched(points: float, width: int, precision: Precision) -> list[Count]:
    """The embedding as it is computed on a GPU, forward and backward: neighbours one after the other."""
    rows, short = points * width, precision.products
    small, product = 2 * rows * INPUTS, 2 * rows * width
    operations = [  # numbers of (P, C) read and written, matrix operations; of one neighbour
        *((1, small), (2, 0), (2, product), (3, 0), (2, 0), (3, 0), (3, 0)),  # forward
        *((1, small), (2, 0), (2, 0), (3, 0), (2, product), (2, product), (3, 0)),  # backward
        *((1, small), (1, 0), (1, small)),
    ]
    out = [Count(numbers * rows * short, matrix) for numbers, matrix in operations] * NEIGHBOURS
    once = [  # the point itself, both side by side, the merge, and back
        *((1, small), (4, 0), (3, 2 * product), (3, 2 * product), (3, 2 * product), (1, 0)),
        *((1, small), (1, small), (1, 0)),
    ]
    out += [Count(numbers * rows * short, matrix) for numbers, matrix in once]
    return [*out, Count(DIFFERENCES * NEIGHBOURS * INPUTS * points)]


def authors_layer(points: float, cells: float, width: int, precision: Precision) -> list[Count]:
    """One layer of the authors, forward and backward, operation by operation. cells: of the planes of all clouds.

    The list is that of their code (valeoai/WaffleIron at bcd387c, waffleiron/backbone.py, with `scatter_reduce`), as torch
    calls it. A scatter or gather is counted for the points that it moves; a gradient of weights and one of inputs as one
    reading of what both need. Left out: copies in which rows are transposed for a norm, the rows that fill clouds up to
    the longest, and weights.
    """
    size, short = precision.rows, precision.products
    cast = size + short if short != size else 0
    of_plane = [  # bytes a number of the plane: zeros, kept copy, cast, convolution, ReLU, convolution, scale
        *(size, 2 * size, cast, *[2 * short] * 4),
        *(
            short,
            2 * short,
            *[3 * short] * 4,
            cast,
            2 * size,
        ),  # backward: zeros, scatter, the four, cast, scatter
    ]
    added, norm = 2 * size + short, 2 * size
    of_rows = [
        *(norm, 2 * size, size, 2 * short, added),  # norm, weighted, to the plane, and back, added
        *(norm, cast, *[2 * short] * 4, added),  # norm, cast, product, ReLU, product, scale, added
        *(cast, *[3 * short] * 4, cast, 3 * size, 3 * size),  # backward: the four, norm, added
        *(cast, short, size, 2 * size, 3 * size, 3 * size),  # to the plane, and back, weighted, norm, added
    ]
    out = [Count(cells * width * each) for each in of_plane] + [
        Count(points * width * each) for each in of_rows
    ]
    product = Count(matrix=2 * points * width**2)
    places = [len(of_plane) + place for place in (7, 9, 14, 16)]  # the products, forward and backward
    for place, times in zip(places, (1, 1, 2, 2), strict=True):
        out[place] = out[place] + product * times
    return out

"""The least time that kernels, a layer and a whole student can take on a GPU, from counts and datasheets; none is needed.

    python -m benchmarks.gpu.floors
    python -m benchmarks.gpu.floors --table step --card H100
    python -m benchmarks.gpu.floors --table bytes
    python -m benchmarks.gpu.floors --table cells

A floor is the longest of three times: of the bytes that have to pass through the device's memory, of the matrix products,
and of all other operations, each at the rate of the datasheet. An estimate takes the operations that the backend
`triton` calls today, each at its own floor, one after the other. The clouds are those of `camera_clouds`; the last command counts
their cells anew and needs $GRIDDLE_SAMPLES.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import click

from benchmarks.gpu.counts import Laid, kernels
from benchmarks.gpu.datasheets import CARDS, PRECISIONS, Card, Count, Precision
from benchmarks.gpu.layer_counts import (
    authors_layer,
    embedding_launched,
    embedding_least,
    launched,
    least,
)

DEPTH = 48
CLOUDS = 8
"""In a batch."""
WIDTHS = (256, 768)
PLANES = (256 * 256, 256 * 32, 256 * 32)
"""Cells of each plane, seen from above, from the side and from the front: 0.4 m, nuScenes' field of view."""

CELLS = {
    5_000: ((1154, 2688), (638, 1257), (737, 1425)),
    10_000: ((1531, 3027), (799, 1381), (931, 1540)),
    20_000: ((1851, 3294), (939, 1467), (1089, 1628)),
}
"""By points of a cloud: occupied cells O, and cells D in and around them, of each plane. Means of the six cameras of the
first keyframe of nuScenes' scene-0061, made denser (`benchmarks/camera_clouds.py`). A real denser lidar occupies more."""

ON_CELLS = ("means from sums", "means from sums, backward", "taps, sums of parts", "biases of convolutions")
"""Operations of torch, among those that a layer launches, that read cells and no rows."""

Layers = Sequence[tuple[Laid, int]]
"""How a batch lies on each plane in turn, and the cells of that plane, of all clouds."""


def planes(points: int, clouds: int = CLOUDS) -> Layers:
    """A batch of clouds of 5,000, 10,000 or 20,000 points on the three planes."""
    return [
        (Laid(points, occupied, dilated) * clouds, cells * clouds)
        for (occupied, dilated), cells in zip(CELLS[points], PLANES, strict=True)
    ]


def student_floor(card: Card, on: Layers, width: int, precision: Precision, depth: int = DEPTH) -> float:
    """Seconds below which a forward and backward pass of embedding and layers cannot be done. Head, loss and optimiser
    are not in it."""
    return card.floor(student_least(on, width, precision, depth), precision.name)


def student_least(on: Layers, width: int, precision: Precision, depth: int = DEPTH) -> Count:
    """The work that a forward and backward pass of embedding and layers cannot avoid."""
    layers = [least(on[d % len(on)][0], width, precision) for d in range(depth)]
    return sum(layers, embedding_least(on[0][0].points, width, precision))


def student_estimate(
    card: Card, on: Layers, width: int, precision: Precision, depth: int = DEPTH, embedding: bool = True
) -> float:
    """Seconds of the same as it is computed today, operation by operation, each at its floor. embedding: or the layers alone."""
    before = card.one_by_one(embedding_launched(on[0][0].points, width, precision), precision.name)
    each = [card.one_by_one(launched(laid, width, precision).values(), precision.name) for laid, _ in on]
    return before * embedding + sum(each[d % len(on)] for d in range(depth))


def authors_estimate(
    card: Card, on: Layers, width: int, precision: Precision, depth: int = DEPTH, embedding: bool = True
) -> float:
    """Seconds of the authors' layers in the same way: see `authors_layer`. Their embedding is counted as ours: it has the
    same products, and was not counted."""
    before = card.one_by_one(embedding_launched(on[0][0].points, width, precision), precision.name)
    each = [
        card.one_by_one(authors_layer(laid.points, cells, width, precision), precision.name)
        for laid, cells in on
    ]
    return before * embedding + sum(each[d % len(on)] for d in range(depth))


def kernel_table(cards: Sequence[Card], points: int = 5_000, width: int = 768) -> Iterator[str]:
    """Of each kernel on the plane seen from above, in float32, the only short type in which they are launched."""
    names = " | ".join(f"floor, µs: {card.name}" if not i else card.name for i, card in enumerate(cards))
    yield f"| kernel | MB | million operations | bound by | {names} | measured |"
    yield "|" + "---|" * (5 + len(cards))
    laid, _ = planes(points)[0]
    for name, count in kernels(laid, width, PRECISIONS["float32"].rows).items():
        floors = " | ".join(f"{1e6 * card.floor(count, 'float32'):.0f}" for card in cards)
        bound = _bound(cards, count, "float32")
        yield f"| {name} | {count.bytes / 1e6:.0f} | {count.other / 1e6:.0f} | {bound} | {floors} | |"


def layer_table(cards: Sequence[Card]) -> Iterator[str]:
    """Of one layer, the mean of the three planes: forward alone, and forward and backward."""
    names = [card.name for card in cards]
    heads = [
        " | ".join([f"{way}, ms: {names[0]}", *names[1:]]) for way in ("forward", "forward and backward")
    ]
    yield f"| width | points | precision | {' | '.join(heads)} | bound by | measured |"
    yield "|" + "---|" * (5 + 2 * len(cards))
    for width, points, precision in _rows():
        forward, both = (
            sum((least(laid, width, precision, way) for laid, _ in planes(points)), Count()) * (1 / 3)
            for way in (False, True)
        )
        floors = " | ".join(
            f"{1e3 * card.floor(count, precision.name):.3f}" for count in (forward, both) for card in cards
        )
        bound = _bound(cards, both, precision.name)
        yield f"| {_label(width, points, precision, cards)} | {floors} | {bound} | |"


def step_table(card: Card) -> Iterator[str]:
    """Of embedding and 48 layers, forward and backward: floor, estimate, the authors' estimate, measured."""
    yield (
        f"| {card.name}: width | points | precision | floor, ms | bound by | estimate, ms "
        f"| authors', estimate, ms | ratio of estimates | measured |"
    )
    yield "|" + "---|" * 9
    for width, points, precision in _rows():
        on = planes(points)
        count = student_least(on, width, precision)
        ours = student_estimate(card, on, width, precision)
        theirs = authors_estimate(card, on, width, precision)
        yield (
            f"| {_label(width, points, precision, [card])} | {1e3 * card.floor(count, precision.name):.1f} "
            f"| {_bound([card], count, precision.name)} "
            f"| {1e3 * ours:.1f} | {1e3 * theirs:.1f} | {theirs / ours:.1f} | |"
        )


def bytes_table(cards: Sequence[Card], precision: Precision = PRECISIONS["bfloat16"]) -> Iterator[str]:
    """Bytes that one layer moves, forward and backward, for each number of its features, the mean of the three planes: the
    least, and those of today's code by what moves them. Then the ratio of estimates of the layers alone, without the
    embedding."""
    names = [card.name for card in cards]
    yield (
        f"| width | points | least | today | in kernels of ours | in torch's operations on cells | on rows and weights "
        f"| embedding, today | authors' estimate over ours, layers alone: {' | '.join(names)} |"
    )
    yield "|" + "---|" * (8 + len(cards))
    for width, points in itertools.product(WIDTHS, CELLS):
        on = planes(points)
        numbers = sum(laid.points for laid, _ in on) * width
        needed = sum(least(laid, width, precision).bytes for laid, _ in on)
        moved = dict.fromkeys(("kernels", "cells", "rows"), 0.0)
        for laid, _ in on:
            ours = kernels(laid, width, precision.rows)
            for name, count in launched(laid, width, precision).items():
                moved["kernels" if name in ours else "cells" if name in ON_CELLS else "rows"] += count.bytes
        embedding = sum(embedding_launched(on[0][0].points, width, precision), Count()).bytes
        parts = [needed, sum(moved.values()), *moved.values(), 3 * embedding]
        ratios = [
            authors_estimate(card, on, width, precision, embedding=False)
            / student_estimate(card, on, width, precision, embedding=False)
            for card in cards
        ]
        cells = [f"{part / numbers:,.0f}" for part in parts] + [f"{ratio:.1f}" for ratio in ratios]
        yield f"| {width} | {points:,} | {' | '.join(cells)} |"


def cells_table() -> Iterator[str]:
    """Cells of real clouds, counted anew."""
    import torch

    from benchmarks.camera_clouds import GRID, camera_cloud
    from pipeline.students.sparse_plane import sparse_plane

    yield "| points | " + " | ".join(f"O, plane {i} | D" for i in range(len(PLANES))) + " |"
    yield "|" + "---|" * (1 + 2 * len(PLANES))
    for points in CELLS:
        sums = [[0, 0] for _ in PLANES]
        for camera in range(6):
            cells = torch.as_tensor(camera_cloud(camera, points).cells).long()  # (P, 3)
            cloud = torch.zeros(len(cells), dtype=torch.long)
            for i, shape in enumerate(GRID.shapes):
                plane = sparse_plane(cells[:, i], cloud, (1, *shape), torch.float32)
                sums[i][0] += plane.table.shape[1]
                sums[i][1] += plane.back.shape[1] - 1
        means = " | ".join(f"{occupied / 6:.0f} | {dilated / 6:.0f}" for occupied, dilated in sums)
        yield f"| {points} | {means} |"


@click.command()
@click.option(
    "--table",
    "tables",
    type=click.Choice(["kernels", "layer", "step", "bytes", "cells"]),
    multiple=True,
    help="Default: all but the last, which needs $GRIDDLE_SAMPLES.",
)
@click.option("--card", "names", type=click.Choice(list(CARDS)), multiple=True, help="Default: all.")
def main(tables: Sequence[str], names: Sequence[str]) -> None:
    """Print the least times of kernels, a layer and the student, in milliseconds; batch of 8 clouds."""
    cards = [CARDS[name] for name in names or CARDS]
    for table in tables or ("kernels", "layer", "step", "bytes"):
        for lines in {
            "kernels": lambda: [kernel_table(cards)],
            "layer": lambda: [layer_table(cards)],
            "step": lambda: [step_table(card) for card in cards],
            "bytes": lambda: [bytes_table(cards)],
            "cells": lambda: [cells_table()],
        }[table]():
            for line in lines:
                click.echo(line)
            click.echo("")


def _rows() -> Iterator[tuple[int, int, Precision]]:
    """Widths, points and precisions of a table; the two of 16 bits have the same rates and take the same."""
    short = [precision for precision in PRECISIONS.values() if precision.name != "float16"]
    return itertools.product(WIDTHS, CELLS, short)


def _label(width: int, points: int, precision: Precision, cards: Sequence[Card]) -> str:
    """Width, points and precision; with ° where one tensor of rows fits into a card's second-level cache."""
    name = "bfloat16, float16" if precision.name == "bfloat16" else precision.name
    fits = any(CLOUDS * points * width * precision.rows <= card.cache for card in cards)
    return f"{width} | {points:,}{'°' if fits else ''} | {name}"


def _bound(cards: Sequence[Card], count: Count, precision: str) -> str:
    """What binds on each of the cards, once if it is the same on all."""
    words = {"bytes": "bytes", "matrix": "products", "other": "other operations"}
    found = [words[card.binds(count, precision)] for card in cards]
    return found[0] if len(set(found)) == 1 else " / ".join(found)


if __name__ == "__main__":
    main()

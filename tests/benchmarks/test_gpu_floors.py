"""Floors of a layer and of the student: they grow with the work and with a slower card; and the page holds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton")

from benchmarks.gpu.counts import Laid
from benchmarks.gpu.datasheets import CARDS, PRECISIONS, Count
from benchmarks.gpu.floors import (
    CELLS,
    WIDTHS,
    authors_estimate,
    bytes_table,
    cells_table,
    kernel_table,
    layer_table,
    planes,
    step_table,
    student_estimate,
    student_floor,
)
from benchmarks.gpu.layer_counts import authors_layer, launched, least

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"


def test_a_floor_is_the_longest_part() -> None:
    card = replace(CARDS["H100"], memory=10.0, other=5.0, matrix={"bfloat16": 100.0, "float32": 5.0})
    assert card.floor(Count(bytes=100, matrix=200, other=10), "bfloat16") == 10
    assert card.binds(Count(bytes=100, matrix=200, other=10), "bfloat16") == "bytes"
    assert card.floor(Count(bytes=10, matrix=200, other=5), "bfloat16") == 2
    assert card.floor(Count(bytes=10, matrix=200, other=5), "float32") == 41  # the same units do both
    assert card.one_by_one([Count(bytes=100), Count(matrix=200)], "bfloat16") == 12


def test_bytes_by_hand() -> None:
    """One layer of a single point: a plane with one occupied cell in its middle."""
    laid, half = Laid(1, 1, 9), PRECISIONS["bfloat16"]
    operations = launched(laid, 2, half)
    assert operations["add_to_rows"].bytes == (2 + 2 + 2) * 4 + 8  # row, cell, sum; where the cell is
    assert operations["first product"].bytes == (2 + 2 + 4) * 2  # row in, row out, weights
    assert operations["first product"].matrix == 2 * 2 * 2
    assert operations["norm of rows"].bytes == 2 * (4 + 4) + 2 * (4 + 2)  # normalised, then cast
    indices = 8 + 8 + 9 * 8 + 9 * 9 * 8  # cell and order of the row, neighbours of O and of D
    assert least(laid, 2, half, backward=False).bytes == 2 * 2 * 4 + indices + 2 * 4 * 4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("card", CARDS)
def test_nothing_is_faster_than_its_floor(card: str, precision: str) -> None:
    for points in CELLS:
        for width in WIDTHS:
            sizes = (CARDS[card], planes(points), width, PRECISIONS[precision])
            assert student_floor(*sizes) < student_estimate(*sizes) < authors_estimate(*sizes)


def test_more_work_takes_longer() -> None:
    def floor(
        points: int = 5_000, clouds: int = 8, width: int = 256, depth: int = 48, name: str = "TF32"
    ) -> float:
        return student_floor(CARDS["H100"], planes(points, clouds), width, PRECISIONS[name], depth)

    assert floor() < floor(points=10_000) < floor(points=20_000)
    assert floor(clouds=4) < floor() < floor(clouds=16)
    assert floor(width=96) < floor() < floor(width=768)
    assert floor(depth=6) < floor(depth=12) < floor()
    assert floor(name="bfloat16") == floor(name="float16") < floor() < floor(name="float32")
    for small, large in ((Laid(10, 4, 9), Laid(10, 5, 9)), (Laid(10, 4, 9), Laid(10, 4, 10))):
        assert least(small, 8, PRECISIONS["TF32"]).bytes < least(large, 8, PRECISIONS["TF32"]).bytes


def test_a_faster_card_takes_less() -> None:
    times = [student_floor(CARDS[name], planes(5_000), 256, PRECISIONS["bfloat16"]) for name in CARDS]
    assert times == sorted(times, reverse=True)


def test_the_authors_planes_cost_by_the_cell() -> None:
    """As torch calls their code under autocast: 78 bytes for each number of a plane, whatever lies there."""
    few, many = (sum(authors_layer(1000, cells, 8, PRECISIONS["bfloat16"]), Count()) for cells in (0, 1000))
    assert (many.bytes - few.bytes) / 8000 == 78
    assert many.matrix == few.matrix == 6 * 2 * 1000 * 8**2


def test_the_page_holds_the_tables() -> None:
    """But for what was measured, in the last column."""
    cards = list(CARDS.values())
    page = PAGE.read_text().splitlines()
    for table in (kernel_table(cards), layer_table(cards), *map(step_table, cards), bytes_table(cards)):
        for line in table:
            known = line.removesuffix("| |")
            assert any(other.startswith(known) for other in page), f"docs/gpu.md lacks {known}"


def test_bytes_of_a_layer_are_all_in_the_table() -> None:
    """Each number of the table from `launched` alone, on a card that only bytes bind."""
    slow = replace(CARDS["H100"], memory=1.0)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in list(bytes_table([slow]))[2:]]
    assert len(rows) == len(CELLS) * len(WIDTHS)
    for width, points, least_bytes, today, ours, cells, on_rows, _, ratio in rows:
        on = planes(int(points.replace(",", "")))
        sizes = int(width), PRECISIONS["bfloat16"]
        numbers = sum(laid.points for laid, _ in on) * int(width)
        counts = [launched(laid, *sizes) for laid, _ in on]
        moved = sum(count.bytes for one in counts for count in one.values())
        assert int(today) == round(moved / numbers)
        assert abs(int(ours) + int(cells) + int(on_rows) - moved / numbers) <= 2
        assert int(least_bytes) == round(sum(least(laid, *sizes).bytes for laid, _ in on) / numbers)
        theirs = sum(
            count.bytes for laid, all_cells in on for count in authors_layer(laid.points, all_cells, *sizes)
        )
        assert float(ratio) == round(theirs / moved, 1)


@pytest.mark.whole
def test_cells_are_those_of_real_clouds(samples: Path) -> None:
    found = [line.strip("|").split("|") for line in list(cells_table())[2:]]
    for points, *numbers in ([int(cell) for cell in row] for row in found):
        assert tuple(zip(numbers[::2], numbers[1::2], strict=True)) == CELLS[points]

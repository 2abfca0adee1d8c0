"""The tables of the student: floor, estimate and what was measured, side by side, a size a row."""

from __future__ import annotations

from benchmarks.gpu.lines import Row
from benchmarks.gpu.markdown import all_figures, figure, number, percent, table

SIDES = ("triton", "torch", "compiled")
Size = tuple[str, str, str]


def student_tables(rows: list[Row]) -> list[str]:
    """Times; then memory and shares; then what is no step: optimiser, parts."""
    sizes: dict[Size, dict[str, Row]] = {}
    rest: list[Row] = []
    for row in rows:
        side, _, size = str(row["what"]).partition(", ")
        parts = size.split(", ")
        if side in (*SIDES, "authors") and len(parts) == 3:
            sizes.setdefault((parts[0], parts[1], parts[2]), {})[side] = row
        elif row["status"] != "left out":
            rest.append(row)
    measured = {
        size: sides
        for size, sides in sizes.items()
        if any(row["status"] != "left out" for row in sides.values())
    }
    plain = [(str(row["what"]), all_figures(row)) for row in rest]
    return [*_times(measured), *_shares(measured), *table(("beside the step", "figures"), plain)]


def _times(sizes: dict[Size, dict[str, Row]]) -> list[str]:
    """Milliseconds of a step of eight clouds, theirs a cloud, too, where fewer fit."""
    head = (
        "width",
        "points",
        "arithmetic",
        "floor, ms",
        "estimate, ms",
        *(f"{side}, measured, ms" for side in SIDES),
        "authors', estimate, ms",
        "authors', measured, ms",
        "clouds that fit",
        "times as fast, a cloud",
    )
    found = []
    for size, sides in sizes.items():
        theirs, best = sides.get("authors"), fastest(sides)
        said = next((row for row in sides.values() if "floor_ms" in row), {})
        found.append(
            (
                *(part.split()[0] if number_ < 2 else part for number_, part in enumerate(size)),
                number(said.get("floor_ms")),
                number(said.get("estimate_ms")),
                *(figure(sides.get(side), "ms") for side in SIDES),
                number(said.get("authors_estimate_ms")),
                figure(theirs, "ms"),
                number(theirs.get("clouds")) if theirs else "",
                _times_as_fast(theirs, best),
            )
        )
    return table(head, found)


def _shares(sizes: dict[Size, dict[str, Row]]) -> list[str]:
    """Of the fastest of ours: the floor's share, the products', what the host takes; and memory of both."""
    head = (
        "width",
        "points",
        "arithmetic",
        "fastest of ours",
        "floor, of its time",
        "products, of its time",
        "host busy, of its time",
        "peak, GB",
        "authors', of products",
        "authors' peak, GB",
    )
    found = []
    for size, sides in sizes.items():
        theirs, best = sides.get("authors") or {}, fastest(sides)
        if best is None:
            continue
        floor = best["floor_ms"] / best["ms"] if "floor_ms" in best else None
        found.append(
            (
                *(part.split()[0] if number_ < 2 else part for number_, part in enumerate(size)),
                str(best["side"]),
                percent(floor),
                percent(best.get("share_of_products")),
                percent(best["host_ms"] / best["ms"] if "host_ms" in best else None),
                number(best.get("peak_gb")),
                percent(theirs.get("share_of_products")),
                number(theirs.get("peak_gb")),
            )
        )
    return table(head, found)


def fastest(sides: dict[str, Row]) -> Row | None:
    """Of ours; None where none was measured."""
    ours = [sides[side] for side in SIDES if side in sides and "ms" in sides[side]]
    return min(ours, key=lambda row: row["ms"]) if ours else None


def _times_as_fast(theirs: Row | None, ours: Row | None) -> str:
    if theirs is None or ours is None or "ms_a_cloud" not in theirs or "ms_a_cloud" not in ours:
        return ""
    return number(theirs["ms_a_cloud"] / ours["ms_a_cloud"], 2)

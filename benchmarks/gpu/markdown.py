"""Rows of the one JSON as markdown: tables, numbers with as many digits as they are worth, and what was not measured in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.lines import Row

WORDS = {"out of memory": "out of memory", "left out": "left out", None: ""}
"""A status in the place of a figure; of the others their own name, in bold."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; none where there is no row."""
    body = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    if not body:
        return []
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body, ""]


def number(value: Any, digits: int = 3) -> str:
    """A number with so many digits that count; small ones as 1.2e-7; what is none as it is, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(number(one, digits) for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{name.replace('_', ' ')} {number(one, digits)}" for name, one in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):,}" if "e" in text else text


def percent(value: Any) -> str:
    return "" if not isinstance(value, int | float) else f"{100 * value:.0f} %"


def figure(row: Row | None, key: str, digits: int = 3) -> str:
    """One figure of a row; where there is none, why not, in a word."""
    if row is None:
        return ""
    if key in row:
        return number(row[key], digits)
    status = row.get("status")
    return "" if status == "ok" else WORDS.get(status, f"**{status}**")


def named(row: Row, name: str | None = None) -> str:
    """What a row is about, with a mark where its figures are wrong."""
    shown = str(row["what"]) if name is None else name
    return f"{shown} **wrong**" if row.get("status") == "wrong" else shown


def all_figures(row: Row) -> str:
    """Whatever a row says, in words."""
    silent = ("what", "status", "why", "seconds", "repeats")
    told = {
        k: v
        for k, v in row.items()
        if k not in silent and not k.endswith("_spread") and v not in (None, [], {}, "")
    }
    return number(told)

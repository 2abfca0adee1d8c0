"""The file in which a section tells its rows: one JSON object a line, written by its processes, read by the one that waits.

A process may be killed in the middle of a line. What is no whole line, or no JSON, is passed over, and who writes next
starts on a line of its own.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]

WAITS = "GRIDDLE_GPU_WAITS"
"""The variable that holds the number of the process that reads what a section tells."""
MOST_TEXT = 800
"""Characters of one text in a row."""
MOST_ROW = 20_000
"""Characters of one row; a longer one is told of as failed."""


def append(lines: Path, row: Row) -> None:
    """Add a row at the end."""
    text = json.dumps(plain(row))
    if len(text) > MOST_ROW:
        why = f"its result has {len(text):,} characters; at most {MOST_ROW:,} are kept"
        text = json.dumps({"what": row.get("what"), "status": "failed", "why": why})
    with open(lines, "a+b") as file:
        file.seek(0, 2)
        if file.tell():
            file.seek(-1, 2)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write((text + "\n").encode())


def begin(lines: Path, what: str, most: float) -> None:
    """Say that a cell begins, and how many seconds it may take."""
    append(lines, {"began": what, "at": time.monotonic(), "most": most})


def whole_lines(lines: Path) -> list[str]:
    """Those that end; half a line waits."""
    return lines.read_text(errors="replace").split("\n")[:-1] if lines.exists() else []


def row_of(line: str) -> Row | None:
    """A line's row; None where it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def rows_in(lines: Path) -> list[Row]:
    return [row for line in whole_lines(lines) if (row := row_of(line)) is not None]


def told_in(lines: Path) -> dict[str, str]:
    """The cells that are told of, and the status of each."""
    return {str(row["what"]): str(row.get("status")) for row in rows_in(lines) if "what" in row}


def in_flight(lines: Path) -> tuple[str, float] | None:
    """The cell that was begun and is not told of, and the seconds that it may still take; None where there is none."""
    rows = rows_in(lines)
    told = {row["what"] for row in rows if "what" in row}
    for row in reversed(rows):
        if "began" in row and row["began"] not in told:
            return str(row["began"]), row["at"] + row["most"] - time.monotonic()
    return None


def is_through(lines: Path) -> bool:
    """Whether a section has come to its end: a process may end well in the middle of it."""
    return any("through" in row for row in rows_in(lines))


def plain(value: Any) -> Any:
    """What JSON can say: tensors and numpy's numbers as numbers, what is not finite as text, long text cut."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | Path):
        return str(value).encode(errors="replace").decode()[:MOST_TEXT]  # half a surrogate cannot be printed
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)[:MOST_TEXT]
    return number if math.isfinite(number) else str(number)

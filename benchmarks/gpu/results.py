"""The one JSON: sections, their rows, and what became of each. Written anew, whole, whenever a row comes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.lines import Row, append, row_of, whole_lines

BAD = ("failed", "wrong", "died", "hung", "cut off")
"""A row's or section's `status` that needs a look; `out of memory` and `left out` are results."""
KIND = "griddle gpu benchmark"
MOST_BYTES = 3_800_000
"""Of the JSON; rows that come when it is full are counted and not kept."""


class Results:
    """What a run has measured so far.

    Attributes:
        body: what is in the file: how the run was asked for, and for each section on what device it ran, its seconds,
            status and rows.
    """

    def __init__(self, path: Path, asked: dict[str, Any], keep: bool = False) -> None:
        """keep: the sections of a file that is there, but for those that are run again. Else that file gets another name."""
        self._path = path
        self._read: dict[str, int] = {}
        self._ran: list[str] = []
        self._bytes = 0
        kept = _sections_of(path) if keep else {}
        if path.exists() and not keep:
            path.rename(_free_name(path))
        self.body: dict[str, Any] = {"griddle": KIND, "asked": asked, "started": _now(), "sections": kept}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def begin(self, name: str, budget: float) -> None:
        sections = self.body["sections"]
        sections.pop(name, None)  # it comes last: who reads from the end sees what is new
        self._ran.append(name)
        sections[name] = {"status": "running", "started": _now(), "budget_s": round(budget, 1), "rows": []}
        self._write()

    def take(self, name: str, lines: Path) -> None:
        """What a section has told since the last time; of cells that began nothing is kept."""
        whole = whole_lines(lines)
        new = [row_of(line) for line in whole[self._read.get(name, 0) :]]
        self._read[name] = len(whole)
        found = [row for row in new if row is not None and "began" not in row]
        for row in found:
            self._add(self.body["sections"][name], row)
        if found:
            self._write()

    def _add(self, section: dict[str, Any], row: Row) -> None:
        if "what" not in row and "on" in row:
            section["on"] = row["on"]
        elif self._bytes + len(json.dumps(row)) > MOST_BYTES:
            section["not_kept"] = section.get("not_kept", 0) + 1
        else:
            section["rows"].append(row)
            self._bytes += 2 * len(json.dumps(row))  # a stay on the safe side until it is written

    def note(self, name: str, lines: Path, what: str, status: str, why: str) -> None:
        """Tell of a cell in its place: its process cannot any more."""
        append(lines, {"what": what, "status": status, "why": why})
        self.take(name, lines)

    def error(self, name: str, why: str) -> None:
        """Why a section's process ended outside any cell."""
        self.body["sections"][name]["error"] = why

    def finish(self, name: str, seconds: float, *, cut_off: bool) -> None:
        section = self.body["sections"][name]
        bad = [row for row in section["rows"] if row.get("status") in BAD]
        status = "cut off" if cut_off else "failed" if bad or "error" in section else "ok"
        section |= {"status": status, "seconds": round(seconds, 1)}
        self._write()

    def end(self) -> None:
        self.body["ended"] = _now()
        self._write()

    def rows(self, name: str) -> list[Row]:
        return list(self.body["sections"][name]["rows"])

    def failed(self) -> bool:
        return any(self.body["sections"][name]["status"] != "ok" for name in self._ran)

    def at_a_glance(self) -> str:
        """One line a section of this run, and under it each row that needs a look."""
        lines = [
            f"{'section':<12}{'status':<10}{'s':>7}{'cells':>7}{'bad':>5}{'left out':>10}{'no memory':>11}  on"
        ]
        for name in self._ran:
            section = self.body["sections"][name]
            rows = [row for row in section["rows"] if "status" in row]
            bad = [row for row in rows if row["status"] in BAD]
            out, full = (sum(row["status"] == kind for row in rows) for kind in ("left out", "out of memory"))
            lines.append(
                f"{name:<12}{section['status']:<10}{section.get('seconds', 0):>7.1f}{len(rows):>7}{len(bad):>5}"
                f"{out:>10}{full:>11}  {section.get('on', '')}"
            )
            lines += [f"  {row['status']}: {row['what']}: {row.get('why', '')}" for row in bad]
            if "error" in section:
                lines.append(f"  {section['error']}")
            if "not_kept" in section:
                lines.append(f"  {section['not_kept']} rows were not kept: the file is full")
        kept = [name for name in self.body["sections"] if name not in self._ran]
        lines += [f"of runs before this one: {', '.join(kept)}"] if kept else []
        return "\n".join([*lines, f"all of it: {self._path}"])

    def _write(self) -> None:
        beside = self._path.with_name(f".writing-{self._path.name}")
        text = json.dumps(self.body, indent=1) + "\n"
        self._bytes = len(text)
        beside.write_text(text)
        os.replace(beside, self._path)


def _sections_of(path: Path) -> dict[str, Any]:
    """The sections of a file that a run before this one wrote; none where there is none."""
    try:
        body = json.loads(path.read_text())
        return dict(body["sections"]) if body["griddle"] == KIND else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _free_name(path: Path) -> Path:
    """gpu.before-1.json, or the first number that is free."""
    number = 1
    while (name := path.with_name(f"{path.stem}.before-{number}{path.suffix}")).exists():
        number += 1
    return name

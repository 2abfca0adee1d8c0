"""The one JSON: sections, their rows, and what became of each. Written anew, whole, whenever a row comes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]

BAD = ("failed", "wrong", "died", "cut off")
"""A row's or section's `status` that needs a look; `out of memory` and `left out` are results."""


class Results:
    """What a run has measured so far.

    Attributes:
        body: what is in the file: how the run was asked for, and for each section its seconds, status and rows.
    """

    def __init__(self, path: Path, asked: dict[str, Any]) -> None:
        self._path = path
        self._read: dict[str, int] = {}
        self.body: dict[str, Any] = {
            "griddle": "griddle gpu benchmark",
            "asked": asked,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "sections": {},
        }
        self._write()

    def begin(self, name: str, budget: float) -> None:
        self.body["sections"][name] = {"status": "running", "budget_s": round(budget, 1), "rows": []}
        self._write()

    def take(self, name: str, lines: Path) -> None:
        """The rows that a section has told since the last time; half a line waits."""
        whole = lines.read_text().split("\n")[:-1]
        new = whole[self._read.get(name, 0) :]
        if new:
            self._read[name] = len(whole)
            self.body["sections"][name]["rows"] += [json.loads(line) for line in new]
            self._write()

    def died(self, name: str, lines: Path, code: int, log: Path) -> bool:
        """Note the cell that a section's process was at when it ended with `code`; whether there was one."""
        started = _began(lines)
        if started is None:
            self.body["sections"][name]["error"] = _tail(log)
            return False
        told = {"what": started, "status": "died", "why": f"its process ended with {code}: {_tail(log)}"}
        with open(lines, "a") as file:
            file.write(json.dumps(told) + "\n")
        self.take(name, lines)
        return True

    def finish(self, name: str, seconds: float, *, cut_off: bool) -> None:
        section = self.body["sections"][name]
        bad = [row for row in section["rows"] if row.get("status") in BAD]
        status = "cut off" if cut_off else "failed" if bad or "error" in section else "ok"
        section |= {"status": status, "seconds": round(seconds, 1)}
        self._write()

    def end(self) -> None:
        self.body["ended"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write()

    def rows(self, name: str) -> list[Row]:
        return list(self.body["sections"][name]["rows"])

    def failed(self) -> bool:
        return any(section["status"] not in ("ok",) for section in self.body["sections"].values())

    def at_a_glance(self) -> str:
        """One line a section, and under it each row that needs a look."""
        lines = [f"{'section':<12}{'status':<10}{'s':>7}{'cells':>7}{'bad':>5}{'left out':>10}"]
        for name, section in self.body["sections"].items():
            rows = [row for row in section["rows"] if "status" in row]
            bad = [row for row in rows if row["status"] in BAD]
            out = [row for row in rows if row["status"] == "left out"]
            seconds = f"{section.get('seconds', 0):.1f}"
            lines.append(
                f"{name:<12}{section['status']:<10}{seconds:>7}{len(rows):>7}{len(bad):>5}{len(out):>10}"
            )
            lines += [f"  {row['status']}: {row['what']}: {row.get('why', '')}" for row in bad]
            if "error" in section:
                lines.append(f"  {section['error']}")
        return "\n".join([*lines, f"all of it: {self._path}"])

    def _write(self) -> None:
        beside = self._path.with_name(f".writing-{self._path.name}")
        beside.write_text(json.dumps(self.body, indent=1) + "\n")
        os.replace(beside, self._path)


def _began(lines: Path) -> str | None:
    """The cell that was begun and never told of."""
    rows = [json.loads(line) for line in lines.read_text().splitlines() if line]
    begun = [row["began"] for row in rows if "began" in row]
    told = {row["what"] for row in rows if "what" in row}
    return next((name for name in reversed(begun) if name not in told), None)


def _tail(log: Path, lines: int = 4) -> str:
    text = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return " | ".join(line.strip() for line in text[-lines:])[:600]

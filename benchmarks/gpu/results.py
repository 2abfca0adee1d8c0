"""The one JSON: sections, their rows, and what became of each. Written anew, whole, whenever a row comes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.lines import Row, append, row_of, whole_lines

BAD = ("failed", "wrong", "died", "hung", "cut off")
"""A row's or section's `status` that needs a look; `out of memory` and `left out` are results."""
NOTHING = "nothing"
"""A section's `status` if it ended well, and all of its rows were left out or ran out of memory."""
NOT_BEGUN = "not begun"
"""What is shown of a section that was asked for and that the run did not come to."""
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
        """asked: minutes, only (sections), device, quick. A file that is there is kept under another name (`set_aside`).
        keep: its sections stay in the new file, but for those that are run again.

        Raises:
            FileExistsError: if there is a file that no such run wrote.
            OSError: if nothing can be written there.
        """
        self._path = path.absolute()
        self._asked = asked
        self._read: dict[str, int] = {}
        self._ran: list[str] = []
        self._bytes = 0
        self._unwritten: OSError | None = None
        self._lock = _hold(self._path)
        kept = _sections_of(path)
        self.set_aside: Path | None = None
        if path.exists():
            self.set_aside = _free_name(self._path)
            shutil.copyfile(path, self.set_aside)
        self.body: dict[str, Any] = {
            "griddle": KIND,
            "asked": asked,
            "started": _now(),
            "sections": kept if keep else {},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        if self._unwritten is not None:
            raise self._unwritten

    def begin(self, name: str, budget: float) -> None:
        sections = self.body["sections"]
        sections.pop(name, None)  # it comes last: who reads from the end sees what is new
        self._ran.append(name)
        sections[name] = {
            "status": "running",
            "started": _now(),
            "budget_s": round(budget, 1),
            "asked": {key: self._asked.get(key) for key in ("device", "quick")},
            "rows": [],
        }
        self._write()

    def take(self, name: str, lines: Path) -> None:
        """What a section has told since the last time; of cells that began nothing is kept."""
        whole = whole_lines(lines)
        new = [row_of(line) for line in whole[self._read.get(name, 0) :]]
        self._read[name] = len(whole)
        found = [row for row in new if row is not None and ("what" in row or "on" in row)]
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
        states = [row.get("status") for row in section["rows"]]
        if cut_off:
            status = "cut off"
        elif "error" in section or any(state in BAD for state in states):
            status = "failed"
        else:
            status = "ok" if "ok" in states else NOTHING
        section |= {"status": status, "seconds": round(seconds, 1)}
        self._write()

    def end(self) -> None:
        self.body["ended"] = _now()
        self._write()

    def rows(self, name: str) -> list[Row]:
        return list(self.body["sections"][name]["rows"])

    def failed(self) -> bool:
        """Whether a section that was asked for has not ended well."""
        ran = [
            self.body["sections"][name]["status"] if name in self._ran else NOT_BEGUN
            for name in self._asked["only"]
        ]
        return self._unwritten is not None or any(status != "ok" for status in ran)

    def at_a_glance(self) -> str:
        """One line a section of this run, and under it each row that needs a look."""
        lines = [
            f"{'section':<12}{'status':<10}{'s':>7}{'checks':>8}{'bad':>5}{'left out':>10}{'no memory':>11}  on"
        ]
        for name in self._asked["only"]:
            if name not in self._ran:
                lines.append(f"{name:<12}{NOT_BEGUN}")
                continue
            section = self.body["sections"][name]
            rows = [row for row in section["rows"] if "status" in row]
            bad = [row for row in rows if row["status"] in BAD]
            out, full = (sum(row["status"] == kind for row in rows) for kind in ("left out", "out of memory"))
            lines.append(
                f"{name:<12}{section['status']:<10}{section.get('seconds', 0):>7.1f}{len(rows):>8}{len(bad):>5}"
                f"{out:>10}{full:>11}  {section.get('on', '')}"
            )
            lines += [f"  {row['status']}: {row['what']}: {row.get('why', '')}" for row in bad]
            if "error" in section:
                lines.append(f"  {section['error']}")
            if "not_kept" in section:
                lines.append(f"  {section['not_kept']} rows were not kept: the file is full")
        lines.append("bad: failed, wrong, died, hung or cut off. left out: for lack of time, or of a GPU")
        kept = [name for name in self.body["sections"] if name not in self._ran]
        lines += [f"of runs before this one: {', '.join(kept)}"] if kept else []
        lines += [f"the file before this run: {self.set_aside}"] if self.set_aside else []
        if self._unwritten is not None:
            lines.append(f"the last rows are not in the file: {self._unwritten}")
        return "\n".join(
            [
                *lines,
                f"all of it: {self._path}",
                f"its tables: {_tables_command()} {shlex.quote(str(self._path))}",
            ]
        )

    def _write(self) -> None:
        """A disk that is full now may not be at the next row: what is not written is kept in memory, and said at the end."""
        beside = self._path.with_name(f".writing-{self._path.name}")
        text = json.dumps(self.body, indent=1) + "\n"
        self._bytes = len(text)
        try:
            beside.write_text(text)
            os.replace(beside, self._path)
            self._unwritten = None
        except OSError as error:
            beside.unlink(missing_ok=True)
            self._unwritten = error


def body_of(path: Path) -> dict[str, Any]:
    """What a file holds that `python -m benchmarks.gpu` wrote.

    Raises:
        ValueError: if another program wrote it, or it is not whole.
    """
    try:
        body = json.loads(path.read_text())
        if body["griddle"] == KIND and isinstance(body["sections"], dict):
            return dict(body)
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not what `python -m benchmarks.gpu` writes, or it is not whole")


def _sections_of(path: Path) -> dict[str, Any]:
    """The sections of a file that a run before this one wrote; none where there is none."""
    if not path.exists():
        return {}
    try:
        return dict(body_of(path)["sections"])
    except ValueError as error:
        raise FileExistsError(f"{error}, and stays as it is. Give another --out.") from None


def _hold(path: Path) -> TextIO:
    """Take the lock of an output for as long as this process lives; two runs would write over each other's rows."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    lock = open(Path(tempfile.gettempdir()) / f"griddle-gpu-{name}.lock", "w")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(
            f"another run writes {path}. Give another --out, or wait until it ends."
        ) from None
    return lock


def _tables_command() -> str:
    """`go.sh` knows where packages lie that a plain `python` does not find."""
    script = os.environ.get("GRIDDLE_GPU_SCRIPT")
    return f"{shlex.quote(script)} tables" if script else "python -m benchmarks.gpu.tables"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _free_name(path: Path) -> Path:
    """gpu.before-1.json, or the first number that is free."""
    number = 1
    while (name := path.with_name(f"{path.stem}.before-{number}{path.suffix}")).exists():
        number += 1
    return name

"""One section, by as many processes as it takes: what dies, hangs or spoils its GPU costs one cell, not the section."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.gpu.lines import WAITS, in_flight, is_through
from benchmarks.gpu.results import Results

SPOILT = 99
"""Exit code of a section's process whose GPU answers nothing any more: another process goes on."""
STARTER = (sys.executable, "-m", "benchmarks.gpu.section")
"""What runs a section, given its name."""
GRACE = 10.0
"""Seconds that a section gets to end by itself after its time is over."""
WORTH = 5.0
"""Seconds that must be left for another process."""
POLL = 0.5
TIME_OVER = "the section's time was over"


def run_section(name: str, budget: float, given: Sequence[str], scratch: Path, results: Results) -> None:
    """Run a section until it is through or its time is over; each row is in the JSON within half a second.

    given: options of its processes, beside those that say where things go. scratch: where its rows, its log and its
    files lie while it runs; its processes share them.
    """
    started = time.monotonic()
    folder = scratch / name
    folder.mkdir(parents=True)
    lines, log = scratch / f"{name}.jsonl", scratch / f"{name}.log"
    lines.touch()
    results.begin(name, budget)
    over, why = True, "the run was ended from outside"  # so it is where this process itself is ended
    try:
        while True:
            left = budget - (time.monotonic() - started)
            before = len(results.rows(name))
            options = [
                "--seconds",
                f"{left:.1f}",
                "--lines",
                str(lines),
                "--scratch",
                str(folder),
                *given,
            ]
            end, code = _follow([*STARTER, name, *options], left + GRACE, name, lines, log, results)
            results.take(name, lines)
            cell = in_flight(lines)
            if end == "over":
                why = TIME_OVER
                return
            if end == "hung" and cell:
                results.note(
                    name, lines, cell[0], "hung", f"it had not ended when its time was over: {tail(log)}"
                )
            elif code == 0 and not cell and is_through(lines):
                over = False
                return
            elif cell:
                results.note(name, lines, cell[0], "died", f"its process ended with {code}: {tail(log)}")
            elif code != SPOILT:
                results.error(name, f"its process ended with {code}: {tail(log)}")
            stuck = len(results.rows(name)) == before
            if stuck or budget - (time.monotonic() - started) < WORTH:
                over, why = not stuck, TIME_OVER
                return
    finally:
        cell = in_flight(lines)
        if over and cell:
            results.note(name, lines, cell[0], "cut off", why)
        results.finish(name, time.monotonic() - started, cut_off=over)


def _follow(
    command: list[str], seconds: float, name: str, lines: Path, log: Path, results: Results
) -> tuple[Literal["ended", "over", "hung"], int | None]:
    """A process's end and its exit code: it ended, its time was `over`, or one of its cells took longer than it may."""
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", WAITS: str(os.getpid())},
            start_new_session=True,
        )
    ends = time.monotonic() + max(0.0, seconds)
    try:
        while process.poll() is None:
            if time.monotonic() > ends:
                return "over", None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
            results.take(name, lines)
            cell = in_flight(lines)
            if process.poll() is None and cell and cell[1] < 0:
                return "hung", None
        return "ended", process.returncode
    finally:
        with contextlib.suppress(ProcessLookupError):  # its workers, too, which may outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tail(log: Path, lines: int = 4) -> str:
    """The last lines of what a process printed."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))  # a process may print any amount
        text = file.read().decode(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in text[-lines:])[-600:]

"""Run the sections one after the other, each in a process and within a share of the time, and keep one JSON up to date.

    python -m benchmarks.gpu --minutes 6                    # on a GPU
    python -m benchmarks.gpu --device cpu --quick           # the same ways on a CPU, small; says nothing about speed
    python -m benchmarks.gpu --minutes 2 --only student,teacher

A section writes each result the moment it is there, and this process puts it into the JSON within half a second: a run
that is cut off leaves all that it had measured. Where a section's process dies, or a CUDA fault has spoilt it, another
one goes on behind the cell that did it. At the end a table says at a glance what failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.results import Results
from benchmarks.gpu.sections import SECTIONS, shares_of

GRACE = 10.0
"""Seconds that a section gets to end by itself after its time is over."""
POLL = 0.5


@click.command()
@click.option("--minutes", default=6.0, show_default=True, help="For all sections together.")
@click.option("--only", metavar="A,B", help=f"Only these sections, of {', '.join(SECTIONS)}.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--quick", is_flag=True, help="The smallest sizes alone: to see that all of it runs.")
@click.option(
    "--packed",
    type=click.Path(path_type=Path),
    default=Path("build/gpu"),
    show_default=True,
    help="What pack.sh made: recordings, indices, pictures.",
)
@click.option(
    "--waffleiron", type=click.Path(path_type=Path), help="A checkout of github.com/valeoai/WaffleIron."
)
@click.option("--scalr", type=click.Path(path_type=Path), help="A checkout of github.com/valeoai/ScaLR.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("gpu.json"),
    show_default=True,
    help="The one JSON.",
)
def main(
    minutes: float,
    only: str | None,
    device: str,
    quick: bool,
    packed: Path,
    waffleiron: Path | None,
    scalr: Path | None,
    out: Path,
) -> None:
    """Measure what `--device` does: does it run, is it right, how fast is it."""
    chosen = only.split(",") if only else list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise click.UsageError(
            f"--only {only}: there is no section {unknown[0]}; there are {', '.join(SECTIONS)}"
        )
    results = Results(out, {"minutes": minutes, "only": chosen, "device": device, "quick": quick})
    ends = time.monotonic() + 60 * minutes
    options = ["--device", device, "--packed", str(packed)] + (["--quick"] if quick else [])
    for name, checkout in (("--waffleiron", waffleiron), ("--scalr", scalr)):
        options += [name, str(checkout)] if checkout else []
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(chosen):
            left = ends - time.monotonic()
            budget = left * shares_of(chosen[number:])[0]
            _run(name, budget, options, Path(scratch), results)
    results.end()
    click.echo(results.at_a_glance())
    raise SystemExit(1 if results.failed() else 0)


def _run(name: str, budget: float, options: list[str], scratch: Path, results: Results) -> None:
    """One section, by as many processes as it takes, until it is through or its time is over."""
    started = time.monotonic()
    lines = scratch / f"{name}.jsonl"
    lines.touch()
    log = scratch / f"{name}.log"
    click.echo(f"== {name}: {SECTIONS[name].about} ({budget:.0f} s)", err=True)
    results.begin(name, budget)
    while True:
        left = budget - (time.monotonic() - started)
        command = [sys.executable, "-m", "benchmarks.gpu.section", name, "--seconds", f"{left:.1f}"]
        code = _follow([*command, "--lines", str(lines), *options], left, lines, log, name, results)
        before = len(results.rows(name))
        results.take(name, lines)
        if code in (0, None) or not results.died(name, lines, code, log):
            break
        if budget - (time.monotonic() - started) < 5 or len(results.rows(name)) == before:
            break
    results.finish(name, time.monotonic() - started, cut_off=code is None)


def _follow(
    command: list[str], seconds: float, lines: Path, log: Path, name: str, results: Results
) -> int | None:
    """The exit code of a section's process; None where it had to be ended. Its rows come into the JSON meanwhile."""
    with open(log, "ab") as file:
        environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        ends = time.monotonic() + max(0.0, seconds) + GRACE
        try:
            while process.poll() is None and time.monotonic() < ends:
                time.sleep(POLL)
                results.take(name, lines)
            if process.poll() is None:
                return None
            return process.returncode
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    main()

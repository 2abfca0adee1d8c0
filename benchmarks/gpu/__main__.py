"""Run the sections one after the other, each in a process and within a share of the time, and keep one JSON up to date.

    python -m benchmarks.gpu --minutes 6                    # on a GPU
    python -m benchmarks.gpu --device cpu --quick           # the same ways on a CPU, small; says nothing about speed
    python -m benchmarks.gpu --minutes 2 --only student,teacher      # the other sections of the JSON stay

A section writes each result the moment it is there, and this process puts it into the JSON within half a second: a run
that is cut off leaves all that it had measured. Where a section's process dies or hangs, or a CUDA fault has spoilt it,
another one goes on behind the cell that did it. At the end a table says at a glance what failed.
"""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import torch

from benchmarks.gpu.follow import run_section
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.results import Results
from benchmarks.gpu.sections import SECTIONS, shares_of

MINUTES = {False: 6.0, True: 60.0}
"""By whether it is quick: then every cell is small, and on a slow machine none is to be left out."""


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=f"For all sections together.  [default: {MINUTES[False]:g}, with --quick at most {MINUTES[True]:g}]",
)
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
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gpu.json"),
    show_default=True,
    help="The one JSON. A file that is there is kept as gpu.before-1.json, or the next number.",
)
def main(
    minutes: float | None,
    only: str | None,
    device: str,
    quick: bool,
    packed: Path,
    waffleiron: Path | None,
    scalr: Path | None,
    out: Path,
) -> None:
    """Measure what `--device` does: does it run, is it right, how fast is it."""
    chosen = list(dict.fromkeys(name.strip() for name in only.split(","))) if only else list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        raise click.UsageError(
            f"--only {only}: there is no section {unknown[0]}; there are {', '.join(SECTIONS)}"
        )
    try:
        if any(SECTIONS[name].needs_packed for name in chosen):
            Packed(packed)  # before anything is begun
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            f"torch {torch.__version__} finds no GPU, so nothing was measured; --device cpu --quick shows that all of it runs"
        )
    minutes = MINUTES[quick] if minutes is None else minutes
    asked = {"minutes": minutes, "only": chosen, "device": device, "quick": quick}
    try:
        results = Results(out, asked, keep=only is not None)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    ends = time.monotonic() + 60 * minutes
    options = ["--device", device, "--packed", str(packed)] + (["--quick"] if quick else [])
    for name, checkout in (("--waffleiron", waffleiron), ("--scalr", scalr)):
        options += [name, str(checkout.resolve())] if checkout else []
    for polite in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal, too
        signal.signal(polite, lambda number, _: _stop(number))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for number, name in enumerate(chosen):
                budget = max(0.0, ends - time.monotonic()) * shares_of(chosen[number:])[0]
                click.echo(f"== {name}: {SECTIONS[name].about} (at most {budget:.0f} s)", err=True)
                run_section(name, budget, options, Path(scratch), results)
    finally:
        results.end()
        with suppress(OSError):  # where the terminal is gone
            click.echo(results.at_a_glance())
    raise SystemExit(1 if results.failed() else 0)


def _stop(number: int) -> None:
    """A polite end from outside goes the way of all ends: the section's process is ended, the table printed."""
    for polite in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(polite, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()

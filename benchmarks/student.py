"""The student's layers against the authors' own: time, memory, distance to the bare matrix products, and error.

    git clone https://github.com/valeoai/WaffleIron /tmp/waffleiron
    python benchmarks/student.py --authors /tmp/waffleiron
    python benchmarks/student.py --authors /tmp/waffleiron --table speed --case 768,6000,2,bfloat16 --pairs 15

Needs $GRIDDLE_SAMPLES for its clouds (see `camera_clouds`). Without --authors the other side is our own dense
`reference`. Both have the same weights and see the same clouds; a step is forward and backward of three layers,
LayerNorm and ReLU, one on each plane, the tables of the planes included. Steps of all sides take turns in one process
and every ratio is one of neighbours in time: median (smallest to largest). On one thread times are CPU time, which
other work on the machine disturbs less than it does wall clock; it still makes memory slow for both sides.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from camera_clouds import camera_clouds
from student_sides import (
    LAYERS,
    Step,
    floor_step,
    in_turn,
    keep_freed_memory,
    our_layers,
    our_step,
    own_times,
    peak_megabytes,
    spread,
    their_step,
)

from pipeline.students.backends import backend_for
from pipeline.students.packed import PackedClouds
from pipeline.students.waffleiron import WaffleIron

SPEED = (
    "96,3000,1,float32",
    "256,6000,1,float32",
    "768,6000,1,float32",
    "256,6000,2,bfloat16",
    "768,6000,2,bfloat16",
)
MEMORY = ("96,3000,1", "96,6000,1", "96,20000,1", "256,3000,1", "256,6000,1", "256,20000,1")
ERROR = ("256,6000,2", "768,6000,1")
SCALING = (1, 2, 5, 10, 20)
"""Clouds of 5,000 points in a batch."""
OTHERS = ("256,3000,2,float32", "256,6000,2,bfloat16")
PROFILES = ("96,3000,1,float32", "768,6000,1,float32")
TABLES = ("speed", "memory", "error", "scaling", "backends", "checkpointing", "profile")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@click.command()
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice(TABLES),
    help="Default: all but backends and profile.",
)
@click.option(
    "--case", "cases", multiple=True, help="CHANNELS,POINTS,CLOUDS[,bfloat16] instead of a table's own."
)
@click.option(
    "--authors", type=click.Path(path_type=Path), help="A checkout of github.com/valeoai/WaffleIron."
)
@click.option("--backend", default="auto", show_default=True, help="Ours.")
@click.option("--pairs", default=7, show_default=True, help="Steps of each side, in turn.")
@click.option("--threads", default=1, show_default=True, help="1 measures CPU time, more wall clock.")
@click.option(
    "--allocator",
    type=click.Choice(["keep", "default"]),
    default="keep",
    show_default=True,
    help="keep: freed memory stays with the process, which favours the dense side. default: the C library's way.",
)
def main(
    tables: tuple[str, ...],
    cases: tuple[str, ...],
    authors: Path | None,
    backend: str,
    pairs: int,
    threads: int,
    allocator: str,
) -> None:
    """Print the tables of issue and docs: see the top of this file."""
    torch.set_num_threads(threads)
    if allocator == "keep":
        keep_freed_memory()
    clock = time.thread_time if threads == 1 else time.perf_counter
    click.echo(
        f"torch {torch.__version__}, {threads} thread(s), {'CPU time' if threads == 1 else 'wall clock'}, {pairs} pairs, "
        f"allocator {allocator}, against {'the authors' if authors else 'our reference'}, "
        f"ours: {backend_for(backend, 'cpu')}"  # type: ignore[arg-type]
    )
    dense = partial(their_step, authors) if authors else _reference_step
    ours = partial(our_layers, backend=backend)  # type: ignore[arg-type]
    for table in tables or [name for name in TABLES if name not in ("backends", "profile")]:
        click.echo("")
        if table == "speed":
            _speed(cases or SPEED, dense, ours, pairs, clock)
        elif table == "memory":
            _memory(cases or MEMORY, dense, ours)
        elif table == "error":
            _error(cases or ERROR, dense, ours)
        elif table == "scaling":
            _scaling(ours, pairs, clock)
        elif table == "profile":
            _profile(cases or PROFILES, dense, ours)
        else:
            _ways(table, cases or OTHERS, ours, pairs, clock)


Dense = Callable[..., Step]
Ours = Callable[..., WaffleIron]


def _speed(cases: tuple[str, ...], dense: Dense, ours: Ours, pairs: int, clock: Callable[[], float]) -> None:
    click.echo(f"{'':<28} ms a layer, forward and backward")
    click.echo(
        f"{'C':>4} {'points':>6} {'B':>2} {'type':<8} {'dense':>8} {'ours':>7} {'products':>8}  "
        f"{'dense / ours':<22} {'ours / products':<22}"
    )
    for case in cases:
        width, points, count, precision = _parts(case)
        clouds, student = camera_clouds(count, points), ours(width)
        sides = [
            dense(student, clouds, precision),
            our_step(student, clouds, precision),
            floor_step(width, clouds, precision),
        ]
        seconds = in_turn(sides, pairs, clock)  # (pairs, 3)
        their, our, floor = 1e3 / LAYERS * np.median(seconds, axis=0)
        click.echo(
            f"{width:4} {_points(clouds):6} {count:2} {str(precision)[6:]:<8} {their:8.1f} {our:7.1f} {floor:8.1f}  "
            f"{spread(seconds[:, 0] / seconds[:, 1]):<22} {spread(seconds[:, 1] / seconds[:, 2]):<22}"
        )


def _memory(cases: tuple[str, ...], dense: Dense, ours: Ours) -> None:
    click.echo("peak memory of forward and backward of 3 layers, MB")
    click.echo(f"{'C':>4} {'points':>6} {'B':>2} {'type':<8} {'dense':>7} {'ours':>7} {'ratio':>6}")
    for case in cases:
        width, points, count, precision = _parts(case)
        clouds, student = camera_clouds(count, points), ours(width)
        peaks = []
        for step in (dense(student, clouds, precision), our_step(student, clouds, precision)):
            step()
            peaks.append(peak_megabytes(step))
        click.echo(
            f"{width:4} {_points(clouds):6} {count:2} {str(precision)[6:]:<8} {peaks[0]:7.0f} {peaks[1]:7.0f} "
            f"{peaks[0] / peaks[1]:6.1f}"
        )


def _error(cases: tuple[str, ...], dense: Dense, ours: Ours) -> None:
    click.echo("distance of bfloat16 autocast from the authors' float32, relative L2")
    click.echo(
        f"{'C':>4} {'points':>6} {'B':>2}  {'output: dense':>13} {'ours':>8}  {'gradient: dense':>15} {'ours':>8}"
    )
    for case in cases:
        width, points, count, _ = _parts(case)
        clouds, student = camera_clouds(count, points), ours(width)
        exact = dense(student, clouds, torch.float32)()
        low = (dense(student, clouds, torch.bfloat16)(), our_step(student, clouds, torch.bfloat16)())
        (a, b), (c, d) = (
            [((value - truth).norm() / truth.norm()).item() for value in values]
            for values, truth in zip(zip(*low, strict=True), exact, strict=True)
        )
        click.echo(f"{width:4} {_points(clouds):6} {count:2}  {a:13.2e} {b:8.2e}  {c:15.2e} {d:8.2e}")


def _scaling(ours: Ours, pairs: int, clock: Callable[[], float]) -> None:
    click.echo(
        "microseconds a point and layer, forward and backward, C = 256, clouds of 5,000 points (1,000: a part)"
    )
    student = ours(256)
    batches = [_part_of(camera_clouds(1, 5000), 1000), *(camera_clouds(count, 5000) for count in SCALING)]
    seconds = in_turn([our_step(student, clouds) for clouds in batches], pairs, clock)  # (pairs, batches)
    each = 1e6 / LAYERS * seconds / [len(clouds.features) for clouds in batches]
    click.echo(f"{'points':>7} {'us':>6}  {'of that at 5,000':<22}")
    for place, clouds in enumerate(batches):
        click.echo(
            f"{len(clouds.features):7} {np.median(each[:, place]):6.2f}  {spread(each[:, place] / each[:, 1]):<22}"
        )


def _profile(cases: tuple[str, ...], dense: Dense, ours: Ours) -> None:
    """What a layer's time is spent on, by torch's operation, in its own time: before, dense, and after."""
    for case in cases:
        width, points, count, precision = _parts(case)
        clouds, student = camera_clouds(count, points), ours(width)
        click.echo(
            f"C = {width}, {_points(clouds)} points, {count} cloud(s), {str(precision)[6:]}: ms a layer"
        )
        sides = [dense(student, clouds, precision), our_step(student, clouds, precision)]
        columns = [own_times(step) for step in sides]
        click.echo(f"  {'dense':<44}{'ours':<44}")
        for left, right in itertools.zip_longest(*(list(column.items())[:10] for column in columns)):
            cells = (f"{name[0]:<34}{name[1]:7.2f}" if name else "" for name in (left, right))
            click.echo("  " + "".join(f"{cell:<44}" for cell in cells).rstrip())
        click.echo("  " + "".join(f"{'all':<34}{sum(c.values()):7.2f}   " for c in columns).rstrip())


def _ways(table: str, cases: tuple[str, ...], ours: Ours, pairs: int, clock: Callable[[], float]) -> None:
    """Two ways of ours beside each other: eager and compiled, or without and with checkpointing."""
    names = ("torch", "compiled") if table == "backends" else ("kept", "again")
    click.echo(f"ms a layer, forward and backward, and peak MB: {' and '.join(names)}")
    click.echo(
        f"{'C':>4} {'points':>6} {'B':>2} {'type':<8} {names[0]:>8} {names[1]:>8}  {'ratio':<22} {'MB':>6} {'MB':>6} "
        f"{'ratio':>5}" + ("  compiling" if table == "backends" else "")
    )
    for case in cases:
        width, points, count, precision = _parts(case)
        clouds = camera_clouds(count, points)
        if table == "backends":
            students = [our_layers(width, "torch"), our_layers(width, "compiled")]
        else:
            students = [ours(width), ours(width, checkpointing=True)]
        steps = [our_step(student, clouds, precision) for student in students]
        start = time.perf_counter()
        steps[1]()
        compiling = f"  {time.perf_counter() - start:6.0f} s" if table == "backends" else ""
        seconds = in_turn(steps, pairs, clock)  # (pairs, 2)
        first, second = 1e3 / LAYERS * np.median(seconds, axis=0)
        peaks = [peak_megabytes(step) for step in steps]
        click.echo(
            f"{width:4} {_points(clouds):6} {count:2} {str(precision)[6:]:<8} {first:8.1f} {second:8.1f}  "
            f"{spread(seconds[:, 0] / seconds[:, 1]):<22} {peaks[0]:6.0f} {peaks[1]:6.0f} {peaks[0] / peaks[1]:5.2f}"
            + compiling
        )


def _reference_step(student: WaffleIron, clouds: PackedClouds, precision: torch.dtype) -> Step:
    dense = our_layers(student.width, "reference")
    dense.load_state_dict(student.state_dict())
    return our_step(dense, clouds, precision)


def _part_of(clouds: PackedClouds, points: int) -> PackedClouds:
    """The first points of a single cloud."""
    return PackedClouds(
        features=clouds.features[:points],
        neighbours=clouds.neighbours[:points],
        cells=clouds.cells[:points],
        offsets=torch.tensor([0, points]),
    )


def _points(clouds: PackedClouds) -> int:
    """Points a cloud, the mean of the batch."""
    return round(len(clouds.features) / clouds.count)


def _parts(case: str) -> tuple[int, int, int, torch.dtype]:
    """Channels, points, clouds and type of a case."""
    parts = case.split(",")
    try:
        width, points, count = (int(part) for part in parts[:3])
        return width, points, count, PRECISIONS[(*parts[3:], "float32")[0]]
    except (ValueError, KeyError):
        raise click.BadParameter(
            f"{case!r} is not CHANNELS,POINTS,CLOUDS[,bfloat16]", param_hint="--case"
        ) from None


if __name__ == "__main__":
    main()

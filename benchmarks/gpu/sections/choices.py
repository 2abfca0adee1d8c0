"""Is what `auto` takes the fastest backend here; what a CUDA graph of a step, and compiling the whole of it, would give."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.arithmetic import ARITHMETICS
from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.clouds import part_of, real_clouds
from benchmarks.gpu.fixed_step import graphed
from benchmarks.gpu.lines import Row
from benchmarks.gpu.quick import fast_backends, settle
from benchmarks.gpu.student_step import our_step, our_student
from benchmarks.gpu.timing import times
from benchmarks.gpu.whole_compiled import compiled_within
from pipeline.students.backends import Backend, backend_for
from pipeline.students.packed import PackedClouds

SIZES = (
    (256, 5_000, "bfloat16"),
    (768, 5_000, "bfloat16"),
    (96, 3_000, "float32"),
    (768, 20_000, "bfloat16"),
    (256, 5_000, "float32"),
)
DEPTH = 12
"""Layers: a quarter of the published student's; which backend is faster does not depend on how many there are."""
BEHIND = 1.05
"""`auto` may take so many times as long as the fastest."""
COMPILING = 60.0
"""Seconds without which it is not tried to compile the whole."""


def run(cells: Cells) -> None:
    """The sizes in turn, then a graph, then compiling."""
    settle(cells)
    quick = cells.quick
    backends = fast_backends(cells)
    for width, points, name in ((16, 150, "float32"),) if quick else SIZES:
        what = f"auto, {width} channels, {points} points, {name}"
        cells.run(what, partial(_auto, cells, backends, width, points, name), needs=3)
    if not cells.on_gpu:
        cells.leave_out("CUDA graph", "it needs a GPU")
    else:
        for width in (256, 768):
            what = f"CUDA graph, {width} channels, 5000 points"
            cells.run(what, partial(_graph, cells, backends[0], width), needs=4)
    _whole(cells)


def _clouds(cells: Cells, points: int) -> PackedClouds:
    """On the device."""
    if cells.quick:
        return part_of(real_clouds(cells.packed, 2, 3_000), points).to(cells.device)
    return real_clouds(cells.packed, 8, points).to(cells.device)


def _auto(cells: Cells, backends: list[Backend], width: int, points: int, name: str) -> Row:
    """Milliseconds of each backend. What compiling gives is the student section's matter: it takes a minute.

    Raises:
        Wrong: if another one is faster than `auto` by more than can be chance.
    """
    depth = 3 if cells.quick else DEPTH
    student, clouds = our_student(width, depth, cells.device), _clouds(cells, points)
    row: Row = {"width": width, "points": points, "arithmetic": name, "depth": depth}
    taken = {
        backend: times(
            our_step(student, backend, clouds, ARITHMETICS[name], cells.device), cells.device, seconds=0.4
        ).median
        for backend in backends
    }
    auto, fastest = backend_for("auto", cells.device.type), min(taken, key=lambda backend: taken[backend])
    row |= {f"{backend}_ms": round(ms, 4) for backend, ms in taken.items()}
    row |= {"auto": auto, "fastest": fastest, "auto_behind": round(taken[auto] / taken[fastest], 3)}
    if row["auto_behind"] > BEHIND:
        raise Wrong(f"auto takes {auto}, and {fastest} is {row['auto_behind']} times as fast", **row)
    return row


def _graph(cells: Cells, backend: Backend, width: int) -> Row:
    """A step replayed. Its gradients are those of a step that is not, but for what differs between two runs anyway."""
    student, clouds = our_student(width, DEPTH, cells.device), _clouds(cells, 5_000)
    row = graphed(student, backend, clouds, ARITHMETICS["bfloat16"], cells.device)
    torch.cuda.empty_cache()
    row = {
        "backend": backend,
        "width": width,
        "points": 5_000,
        "depth": DEPTH,
        "arithmetic": "bfloat16",
        **row,
    }
    if not row["gradients_apart"] <= 1e-2:
        raise Wrong("a graph gives other gradients", **row)
    return row


def _whole(cells: Cells) -> None:
    what = "torch.compile of the whole"
    if cells.left() < COMPILING and not cells.quick:
        cells.leave_out(what, f"{cells.left():.0f} s were left; it is tried with {COMPILING:.0f} or more")
        return
    options = ["--device", cells.device.type, "--packed", str(cells.packed)]
    if cells.quick:
        options += ["--width", "16", "--depth", "1", "--points", "150", "--clouds", "2"]
        options += ["--compiler", "aot_eager", "--arithmetic", "float32"]
    seconds = cells.left() - 3

    def attempt() -> Row:
        """Giving up is a result, too."""
        return compiled_within(seconds, options) or {"gave_up_after_s": round(seconds)}

    cells.run(what, attempt, needs=5, most=seconds + 30)

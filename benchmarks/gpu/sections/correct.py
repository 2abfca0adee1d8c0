"""Is what the device computes right: backends, losses, sampling, cached against online; and is it the same twice."""

from __future__ import annotations

from functools import partial

from camera_clouds import GRID

from benchmarks.gpu.agreement import Agreement, batches, batches_of_one_kind
from benchmarks.gpu.arithmetic import ARITHMETICS
from benchmarks.gpu.cached_online import MOVED, cached_and_online
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.clouds import part_of, real_clouds
from benchmarks.gpu.lines import Row
from benchmarks.gpu.losses_and_sampling import losses, sampling
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.quick import fast_backends, settle
from benchmarks.gpu.same_bits import ask_for_the_same_products, same_bits
from pipeline.students.backends import Backend

COMPILING = 75.0
"""Seconds that compiling may take."""


def run(cells: Cells) -> None:
    """Backends first; then what is small; then two runs beside each other; last what must be compiled."""
    ask_for_the_same_products()
    settle(cells)
    backends = fast_backends(cells)
    names = [name for name in ARITHMETICS if cells.on_gpu or name != "tf32"]
    if not cells.on_gpu:
        cells.leave_out("tf32", "a CPU has no TF32")
    agreement = Agreement(cells.device, batches(cells.quick))
    for name in names:
        for backend in backends:
            cells.run(f"{backend}, {name}", partial(agreement.row, backend, name), needs=3)
    for name in names:
        if name != "float64":
            cells.run(f"reference, {name}", partial(agreement.row, "reference", name), needs=3)
    cells.run("losses", lambda: losses(cells.device))
    cells.run("sampling", lambda: sampling(cells.device))
    _cached_and_online(cells)
    _twice(cells, backends)
    if cells.quick:
        cells.leave_out("compiled", "compiling takes a minute; --quick does not")
    else:
        agreement = Agreement(cells.device, batches_of_one_kind())
        for name in ("float32", "bfloat16"):
            cells.run(f"compiled, {name}", partial(agreement.row, "compiled", name), needs=COMPILING)


def _cached_and_online(cells: Cells) -> None:
    size, pictures = ((56, 112), 2) if cells.quick else ((224, 448), 4)

    def both(storage: str) -> Row:
        folder = cells.scratch / f"store-{storage}"
        # Both sides in float32 throughout: convolutions would go through TF32 otherwise, in one way or the other.
        with ARITHMETICS["float32"].matrix_units():
            return cached_and_online(Packed(cells.packed), cells.device, folder, storage, size, pictures)

    for storage in MOVED:
        cells.run(
            f"cached and online, {storage}",
            partial(both, storage),
            needs=5,
        )


def _twice(cells: Cells, backends: list[Backend]) -> None:
    width, depth, points = (16, 3, 200) if cells.quick else (256, 6, 3_000)

    def twice(backend: Backend, name: str) -> Row:
        clouds = real_clouds(cells.packed, 2 if cells.quick else 4, 3_000)
        clouds = (part_of(clouds, points) if cells.quick else clouds).to(cells.device, non_blocking=False)
        return same_bits(backend, ARITHMETICS[name], clouds, cells.device, width, depth, GRID.shapes)

    for name in ("bfloat16", "float32", "float16"):
        for backend in backends:
            cells.run(f"twice, {backend}, {name}", partial(twice, backend, name), needs=3)

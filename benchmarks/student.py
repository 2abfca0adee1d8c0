"""How much faster, and in how much less memory, the fast student computes what the readable one does.

    python benchmarks/student.py                                  # less than a minute
    python benchmarks/student.py --case 96,3000,4 --pairs 15      # channels, points a cloud, clouds

Both students have the same weights and see the same clouds, in one process, in turn (reference, torch,
reference, torch, ...), and every ratio is one of neighbours in time. A step is forward and backward; a forward
alone runs in evaluation, without gradients. On one thread (the default) times are CPU time, which other work on
the machine disturbs little; with more threads they are wall clock. Peak memory is that of the tensors which a
step allocates, without weights and input.

The clouds resemble nuScenes': 32 beams, the ground and things in the way, one point per 10 cm voxel, in a
sector of 60 degrees (a camera's view), or all around for clouds of 8,000 points or more. They occupy about as
many cells as real ones do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pipeline.students.grid import Grid
from pipeline.students.packed import Cloud, PackedClouds, pack
from pipeline.students.waffleiron import Backend, WaffleIron

GRID = Grid()
NEIGHBOURS = 16
BACKENDS: tuple[Backend, Backend] = ("reference", "torch")
CASES = ("48,1100,8", "48,3000,2", "96,3000,1", "48,17000,1")


@click.command()
@click.option(
    "--case", "cases", multiple=True, default=CASES, show_default=True, help="CHANNELS,POINTS,CLOUDS."
)
@click.option("--depth", default=6, show_default=True, help="Layers.")
@click.option("--norm", type=click.Choice(["layer", "batch"]), default="layer", show_default=True)
@click.option("--pairs", default=7, show_default=True, help="Steps of each student, in turn.")
@click.option(
    "--threads", default=1, show_default=True, help="Threads; 1 measures CPU time, more wall clock."
)
def main(cases: tuple[str, ...], depth: int, norm: str, pairs: int, threads: int) -> None:
    """Compare the student's backends: time, its ratio with its spread, and peak memory."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    click.echo(
        f"torch {torch.__version__}, depth {depth}, {norm} norm, float32, {pairs} pairs, "
        f"{threads} thread(s), {'CPU time' if threads == 1 else 'wall clock'}; medians; ratio: min, median, max"
    )
    click.echo(
        f"{'C':>4} {'points':>6} {'clouds':>6}  {'':<8} {'reference ms':>12} {'torch ms':>9}  "
        f"{'ratio':^18}  {'MB':>6} {'MB':>6} {'ratio':>5}"
    )
    for case in cases:
        compare(case, depth, norm, pairs, clock)


def compare(case: str, depth: int, norm: str, pairs: int, clock: Callable[[], float]) -> None:
    """Measure one case and print its two lines."""
    try:
        channels, points, count = (int(part) for part in case.split(","))
    except ValueError:
        raise click.BadParameter(f"{case!r} is not CHANNELS,POINTS,CLOUDS", param_hint="--case") from None
    clouds = pack([lidar_like(points, 360.0 if points >= 8000 else 60.0, seed) for seed in range(count)])
    students = [make_student(backend, channels, depth, norm) for backend in BACKENDS]
    peaks = [peak_megabytes(student, clouds) for student in students]  # the first step warms up, too
    for name, work in (("step", step), ("forward", forward)):
        seconds = np.empty((pairs, len(students)))  # (pairs, 2)
        for row in seconds:
            for i, student in enumerate(students):
                student.train(work is step)
                start = clock()
                work(student, clouds)
                row[i] = clock() - start
        ratio = seconds[:, 0] / seconds[:, 1]  # (pairs,)
        slow, fast = 1e3 * np.median(seconds, axis=0)
        memory = f"{peaks[0]:6.0f} {peaks[1]:6.0f} {peaks[0] / peaks[1]:5.1f}" if work is step else ""
        click.echo(
            f"{channels:4} {points:6} {count:6}  {name:<8} {slow:12.1f} {fast:9.1f}  "
            f"{ratio.min():5.2f} {np.median(ratio):6.2f} {ratio.max():5.2f}  {memory}"
        )


def step(student: WaffleIron, clouds: PackedClouds) -> None:
    """Forward and backward, as in pretraining."""
    student.zero_grad(set_to_none=True)
    student(clouds).sum().backward()


def forward(student: WaffleIron, clouds: PackedClouds) -> Tensor:
    """Forward alone, as when features are computed."""
    with torch.no_grad():
        out: Tensor = student(clouds)
    return out


def make_student(backend: Backend, channels: int, depth: int, norm: str) -> WaffleIron:
    """A student whose weights do not depend on the backend."""
    torch.manual_seed(0)
    return WaffleIron(width=channels, depth=depth, plane_shapes=GRID.shapes, norm=norm, backend=backend)


def peak_megabytes(student: WaffleIron, clouds: PackedClouds) -> float:
    """Most memory that one step's tensors hold at once, by the allocator's events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step(student.train(), clouds)
    changes = [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return float(np.cumsum([size for _, size in sorted(changes)]).max()) / 1e6


def lidar_like(points: int, degrees: float, seed: int) -> Cloud:
    """A cloud of about `points` points in a sector of `degrees` around the x axis."""
    rng = np.random.default_rng(seed)
    drawn = 8 * points
    azimuth = rng.uniform(-degrees / 2, degrees / 2, drawn)  # (drawn,) degrees
    beam = rng.integers(0, 32, drawn)  # (drawn,)
    elevation = np.radians(-30.67 + beam * 41.33 / 31)  # (drawn,)
    # Something stands in the way every 4 degrees and 4 beams, 4 to 70 m away; half of it lets rays go deeper.
    way = np.exp(rng.uniform(np.log(4), np.log(70), (91, 8)))[(azimuth + 180).astype(int) // 4, beam // 4]
    way += rng.exponential(1.0, drawn) * (rng.random(drawn) < 0.5)
    ground = np.where(elevation < 0, 1.84 / np.tan(np.maximum(-elevation, 1e-3)), np.inf)
    distance, angle = np.minimum(way, ground), np.radians(azimuth)
    directions = np.stack([np.cos(angle), np.sin(angle), np.tan(elevation)], axis=1)  # (drawn, 3)
    xyz = _one_per_voxel(directions * distance[:, None])[:points]  # (N, 3)
    features = np.column_stack([rng.random(len(xyz)), xyz, np.linalg.norm(xyz, axis=1)])
    neighbours = cKDTree(xyz).query(xyz, NEIGHBOURS + 1)[1][:, 1:]
    return Cloud(features.astype(np.float32), neighbours, GRID.cells(xyz))


def _one_per_voxel(xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The first point of each 10 cm voxel, of the points in the field of view, in their order."""
    xyz = xyz[GRID.inside(xyz)]
    first = np.unique(np.round(xyz / 0.1).astype(int), axis=0, return_index=True)[1]
    return xyz[np.sort(first)]


if __name__ == "__main__":
    main()

"""How much faster a student evaluates with its norms folded into its maps (`pipeline/students/fold.py`).

    python benchmarks/fold.py                               # a minute
    python benchmarks/fold.py --case 768,6000 --pairs 5     # channels, points

Needs $GRIDDLE_SAMPLES for its clouds (see `camera_clouds`). The student and its folded copy see the same cloud in turn, forward alone, on one thread, in CPU time.
"""

from __future__ import annotations

import time

import click
import numpy as np
import torch
from camera_clouds import GRID, camera_clouds

from pipeline.students.fold import folded
from pipeline.students.waffleiron import Norm, WaffleIron


@click.command()
@click.option(
    "--case", "cases", multiple=True, default=["96,3000", "256,6000", "256,20000"], show_default=True
)
@click.option("--depth", default=6, show_default=True)
@click.option("--pairs", default=11, show_default=True)
def main(cases: tuple[str, ...], depth: int, pairs: int) -> None:
    """Compare a student with its folded copy, for both norms."""
    torch.set_num_threads(1)
    click.echo(f"torch {torch.__version__}, depth {depth}, {pairs} pairs, CPU time; ratio: min, median, max")
    click.echo(f"{'norm':<6}{'C':>5}{'points':>8}{'ms':>10}{'folded ms':>11}    ratio")
    norms: tuple[Norm, Norm] = ("batch", "layer")
    for norm in norms:
        for case in cases:
            channels, points = (int(part) for part in case.split(","))
            student = WaffleIron(width=channels, depth=depth, plane_shapes=GRID.shapes, norm=norm).eval()
            short = folded(student)
            clouds = camera_clouds(1, points)
            times = np.empty((pairs + 1, 2))
            for pair in times:
                for place, network in enumerate((student, short)):
                    start = time.thread_time()
                    with torch.no_grad():
                        network(clouds)
                    pair[place] = time.thread_time() - start
            slow, fast = times[1:].T * 1e3  # the first pair warms up
            ratio = slow / fast
            click.echo(
                f"{norm:<6}{channels:5}{len(clouds.features):8}{np.median(slow):10.1f}{np.median(fast):11.1f}    "
                f"{ratio.min():.2f} {np.median(ratio):.2f} {ratio.max():.2f}"
            )


if __name__ == "__main__":
    main()

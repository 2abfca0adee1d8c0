"""The whole pretraining step on a CPU: from the cache, and as published, whose teacher runs in every step.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/
    git clone https://github.com/valeoai/ScaLR
    git clone https://github.com/valeoai/WaffleIron
    python benchmarks/step.py --published ScaLR --waffleiron WaffleIron

WaffleIron of 6 layers and 96 channels over one camera's view of real nuScenes keyframes, LayerNorm, float32, images of
224 x 448. Steps of both sides take turns in one process on one thread; times are CPU time, a ratio is one of
neighbours in time. Each side's parts: `load` makes a batch of the files; `teacher` gives each point its target (as
published: the network, and its patch features made as large as the image; from the cache: a look into the patch
grids that `load` read); `student` is its forward and backward pass with the loss; `optimiser` is AdamW. `data wait` is
the share of wall-clock time that a training with one worker waits for batches, as the trainer measures it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
from authors import published_option
from keyframes import Keyframes, real_keyframes
from online import PARTS, OnlineStep
from student_sides import keep_freed_memory, spread

from pipeline.losses.distillation import distillation_loss
from pipeline.streaming.view_batches import PretrainBatch, stream
from pipeline.students.distilled import Distilled, build

TEACHERS = ("dinov2_vitb14", "dinov2_vits14")


class CachedStep:
    """`step(number)` takes one step from the cache; gives each part's seconds, as `PARTS`."""

    def __init__(self, cache: Keyframes, clock: Callable[[], float]) -> None:
        run = cache.runs["float16"]
        self.batches = cache.steps()
        channels = self.batches[0].targets[0].channels
        self._model: Distilled = build(run.student, run.seed, channels).train()
        training = run.student.pretrain
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(), lr=training.lr, weight_decay=training.weight_decay
        )
        self._clock = clock
        self.points = 0

    def step(self, number: int) -> list[float]:
        start = self._clock()
        batch = self.batches[number]
        return [self._clock() - start, *self.train(batch)]

    def train(self, batch: PretrainBatch) -> list[float]:
        marks = [self._clock()]
        view = batch.view_of_row()
        wanted = [target.sample(view) for target in batch.targets]  # (P, C)
        marks.append(self._clock())
        loss = distillation_loss(self._model(batch.clouds, None), wanted)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(self._clock())
        self._optimiser.step()
        marks.append(self._clock())
        self.points = len(wanted[0])
        return [end - begin for begin, end in pairwise(marks)]


@click.command()
@published_option
@click.option(
    "--waffleiron",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A checkout of github.com/valeoai/WaffleIron.",
)
@click.option("--pairs", default=7, show_default=True, help="Steps of each side, in turn.")
@click.option("--batch", default=4, show_default=True, help="Views in a step.")
@click.option("--width", default=96, show_default=True)
@click.option("--depth", default=6, show_default=True)
@click.option("--wait-steps", default=60, show_default=True, help="Steps over which data wait is measured.")
def main(
    published: Path, waffleiron: Path, pairs: int, batch: int, width: int, depth: int, wait_steps: int
) -> None:
    """Compare a step of pretraining from the cache with the published one."""
    torch.set_num_threads(1)
    keep_freed_memory()
    click.echo(
        f"torch {torch.__version__}, 1 thread, {pairs} pairs, WI-{depth}-{width}, {batch} views a step; "
        "CPU ms a view, medians; ratio: median (smallest to largest)"
    )
    for teacher in TEACHERS:
        with tempfile.TemporaryDirectory() as folder:
            cache = real_keyframes(
                Path(folder) / "real",
                4,
                batch=batch,
                teacher=teacher,
                network={"width": width, "depth": depth, "norm": "layer"},
            )
            cached = CachedStep(cache, time.process_time)
            network = cache.runs["float16"].student.network
            online = OnlineStep(published, waffleiron, cache, teacher, network, batch, time.process_time)
            seconds = _in_turn(online, cached, pairs) / batch
            _tell(teacher, seconds, online.points / batch, cached.points / batch)
            wait, step = _data_wait(cached, wait_steps)
            click.echo(
                f"  data wait {100 * wait:.2f} % of a training with one worker, {step * 1e3:.0f} ms a step"
            )


def _in_turn(online: OnlineStep, cached: CachedStep, pairs: int) -> np.ndarray:
    """Seconds (pairs, 2, parts): the published side, then the cache's."""
    online.step(0)
    for number in range(4):  # opens the partitions
        cached.step(number)
    return np.array([(online.step(pair), cached.step(4 + pair)) for pair in range(pairs)])


def _tell(teacher: str, seconds: np.ndarray, theirs: float, ours: float) -> None:
    click.echo(f"\n{teacher}: {theirs:.0f} and {ours:.0f} points a view in the last step")
    click.echo(f"{'':<10} {'published':>10} {'cache':>8}  ratio")
    whole = seconds.sum(2, keepdims=True)
    for place, name in enumerate((*PARTS, "step")):
        side = np.concatenate([seconds, whole], 2)[:, :, place]  # (pairs, 2)
        published, cache = 1e3 * np.median(side, axis=0)
        click.echo(f"{name:<10} {published:10.1f} {cache:8.2f}  {spread(side[:, 0] / side[:, 1])}")


def _data_wait(cached: CachedStep, steps: int) -> tuple[float, float]:
    """Share of the time that steps wait for their batch, one worker preparing them; and a step's seconds."""
    warm = 4
    batches = stream(cached.batches, 0, warm + steps, 1, pin=False)
    waited, start = 0.0, time.monotonic()
    for number in range(warm + steps):
        if number == warm:
            waited, start = 0.0, time.monotonic()
        before = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - before
        cached.train(batch)
    taken = time.monotonic() - start
    return waited / taken, taken / steps


if __name__ == "__main__":
    main()

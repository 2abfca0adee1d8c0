"""A whole pretraining step of WaffleIron, from a cache on a local disk and with the teacher in every step, side by side:
samples a second, data wait, and what the GPU does of it. Real keyframes, several times over; patch grids are random."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from keyframes import CHANNELS, IMAGE, Keyframes, Recordings, real_keyframes

from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.pace import Step, on_the_gpu, pace
from benchmarks.gpu.packed import NUSCENES, VERSION, Packed
from benchmarks.gpu.timing import peak_gigabytes
from benchmarks.gpu.whole_steps import OnlineSteps, PublishedTrainee, Trainee, untrained, variant
from pipeline.plan.parts import Run
from pipeline.streaming.view_batches import PretrainSteps, stream
from pipeline.teachers.loaded import load_teacher

SCANS = 8
"""In a partition."""
FAR = 1_000_000
"""A step that no measurement reaches."""


@dataclass(frozen=True)
class Size:
    """What is measured: a student, a teacher, and for how long."""

    width: int
    depth: int
    batch: int
    teacher: str = "dinov2_vitl14"
    partitions: int = 2
    precision: Any = "bfloat16"
    seconds: float = 1.5

    @property
    def name(self) -> str:
        return f"WI-{self.depth}-{self.width} {self.precision}"


SMALL = Size(8, 3, 2, "dinov2_vits14", partitions=1, precision="float32", seconds=1.0)


class Steps:
    """The cache, and steps of one student at a time."""

    def __init__(self, cells: Cells, teacher: str, partitions: int) -> None:
        self._cells, self._name, self._partitions = cells, teacher, partitions
        self._packed = Packed(cells.packed)
        self._made: tuple[Any, Any] | None = None

    @cached_property
    def cache(self) -> Keyframes:
        """Computed here, from the packed recordings, in seconds."""
        folder = Path(tempfile.mkdtemp(dir=self._cells.scratch)) / "real"
        index = self._packed.index(NUSCENES)
        recordings = Recordings(NUSCENES, self._packed.recordings, VERSION, index)
        return real_keyframes(
            folder,
            self._partitions,
            batch=2,
            recordings=recordings,
            teacher=self._name,
            storages=("float16",),
        )

    @cached_property
    def teacher(self) -> Any:
        """In the short type where the student is: on a GPU nobody would run it in float32 in every step."""
        precision = "bfloat16" if self._cells.on_gpu else "float32"
        config = self.cache.plan.experiment.config.teachers["float16"]
        return load_teacher(untrained(config, precision), self._cells.device)

    def run(self, size: Size, batch: int) -> Run:
        return variant(
            self.cache.runs["float16"],
            batch,
            size.precision,
            width=size.width,
            depth=size.depth,
            norm="layer",
        )

    def cached(self, run: Run) -> PretrainSteps:
        """The batches of a run, from the cache."""
        return replace(self.cache, runs={"float16": run}).steps()

    def online(self, run: Run, pad: bool = False) -> OnlineSteps:
        """The same with their pictures."""
        return OnlineSteps(self.cached(run), self._packed.recordings, self.cache.scans, SCANS, IMAGE, pad)

    @contextmanager
    def side(self, side: str, size: Size, batch: int) -> Iterator[tuple[Any, Step]]:
        """Batches and steps of one side, on networks that stay until another size or another code is asked for."""
        run = self.run(size, batch)
        published = side == "published"
        if self._made is None or self._made[0] != (size, batch, published):
            self.drop()
            made = (
                self._published(run) if published else Trainee(run, CHANNELS[self._name], self._cells.device)
            )
            self._made = ((size, batch, published), made)
        networks = self._made[1]
        try:
            if published:
                yield self.online(run, pad=True), networks.step
            elif side == "cached":
                yield self.cached(run), networks.cached
            else:
                yield self.online(run), networks.online(self.teacher)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """The networks that are in memory, the teacher apart."""
        self._made = None
        gc.collect()
        if self._cells.on_gpu:
            torch.cuda.empty_cache()

    def idle_gigabytes(self, side: str) -> float:
        """Of our teacher, where it is in memory and this side does without it."""
        if side == "online" or "teacher" not in self.__dict__:
            return 0.0
        return sum(one.nbytes for one in self.teacher.model.parameters()) / 1e9

    def _published(self, run: Run) -> PublishedTrainee:
        """Their network and teacher from their checkouts, weights random: they cannot change the time."""
        from online import GRIDS, published_teacher
        from published import network, waffleiron_of

        assert self._cells.scalr is not None
        assert self._cells.waffleiron is not None
        wanted = run.student.network
        student = network(
            waffleiron_of(self._cells.waffleiron),
            width=wanted.width,
            depth=wanted.depth,
            out=CHANNELS[self._name],
            shapes=[(a, b) for a, b in GRIDS],
            norm=wanted.norm,
            head="linear",
            hidden=0,
            activation="relu",
        )
        teacher = published_teacher(self._cells.scalr, self._name)
        return PublishedTrainee(teacher, student, run.student.pretrain.precision, self._cells.device)


def run(cells: Cells) -> None:
    """The two published sizes; what is worth most first."""
    sizes = [Size(256, 48, 8), Size(768, 48, 8)] if cells.on_gpu and not cells.quick else [SMALL]
    steps = Steps(cells, sizes[0].teacher, sizes[0].partitions)
    cells.run("cache", lambda: _cache(steps))
    batches: dict[str, int] = {}
    most = 8 if cells.on_gpu else 2
    for size in sizes:
        batches[size.name] = _largest(cells, steps, size, most)
        _measure(cells, steps, size, batches[size.name], "online", most)
        _profile(cells, steps, size, batches[size.name])
        _measure(cells, steps, size, batches[size.name], "published", most)
    for size in sizes:
        for side in ("cached", "online"):
            for workers in (0, 2):
                if workers != most:
                    _measure(cells, steps, size, batches[size.name], side, workers)


def _cache(steps: Steps) -> Row:
    """How large it is; its points and views come from the recordings, its patch grids are random."""
    cache = steps.cache.plan.experiment.cache
    return {
        "megabytes": round(sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6, 1)
    }


def _largest(cells: Cells, steps: Steps, size: Size, workers: int) -> int:
    """The largest batch that fits, of the published one and its halves; each try is a cell."""
    batch = size.batch
    while True:
        row = _measure(cells, steps, size, batch, "cached", workers)
        if row is not None or batch == 1 or not cells.ran_out(_name(size, batch, "cached", workers)):
            return batch
        batch //= 2


def _name(size: Size, batch: int, side: str, workers: int) -> str:
    return f"{side} {size.name} batch {batch}, {workers} workers"


def _measure(cells: Cells, steps: Steps, size: Size, batch: int, side: str, workers: int) -> Row | None:
    name = _name(size, batch, side, workers)
    if side == "published" and (cells.scalr is None or cells.waffleiron is None):
        cells.leave_out(name, "checkouts of the authors' code are needed: --scalr and --waffleiron")
        return None
    return cells.run(
        name, partial(_paced, cells, steps, size, batch, side, workers), needs=3 + 2 * size.seconds
    )


def _paced(cells: Cells, steps: Steps, size: Size, batch: int, side: str, workers: int) -> Row:
    row: Row = {"batch": batch, "workers": workers}
    with steps.side(side, size, batch) as (dataset, step):

        def measure() -> None:
            batches = stream(dataset, 0, FAR, workers, pin=cells.on_gpu)
            row.update(pace(batches, step, batch, cells.device, size.seconds))
            batches.close()  # type: ignore[attr-defined]

        if cells.on_gpu:
            peak = peak_gigabytes(measure, cells.device)
            row["peak_gb"] = round((peak or 0.0) - steps.idle_gigabytes(side), 2)
        else:
            measure()
    return row


def _profile(cells: Cells, steps: Steps, size: Size, batch: int) -> None:
    """What the GPU does in a step of each side."""
    for side in ("cached", "online"):
        name = f"profile of {side} {size.name} batch {batch}"
        if cells.on_gpu:
            cells.run(name, partial(_profiled, cells, steps, size, batch, side), needs=6)
        else:
            cells.leave_out(name, "it needs a GPU")


def _profiled(cells: Cells, steps: Steps, size: Size, batch: int, side: str) -> Row:
    with steps.side(side, size, batch) as (dataset, step):
        batches = stream(dataset, 0, FAR, 4, pin=True)
        row = on_the_gpu(batches, step, cells.device)
        batches.close()  # type: ignore[attr-defined]
    if not row["launches_a_step"]:
        raise Wrong("the profiler saw nothing that ran on the GPU", **row)
    return row

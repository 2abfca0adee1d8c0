"""What reading waits for when nothing is in memory: the real disk, and one that is throttled.

    export GRIDDLE_SAMPLES=/path/to/samples          # a folder that holds nuscenes/ with v1.0-trainval tables
    python benchmarks/cold.py                        # about two minutes, 1.5 GB of temporary files

The pages of a cache of real keyframes are dropped (posix_fadvise DONTNEED), and steps of 8 samples are read while a
pretended training computes for a fixed time each. `data wait` is the time a step waits for its batch, in one process
without workers: the worst case. Rows: without and with readahead. The throttled disk is a rate and a latency put
before every byte that is not in memory; it serves one request after the other.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from keyframes import Keyframes, real_keyframes

from cache_schemas import array_reading
from cache_schemas.open_files import OpenFiles
from pipeline.streaming.readahead import STEPS_AHEAD

BATCH = 8
BLOCK = 2**16


class ThrottledFiles(OpenFiles):
    """A disk of `rate` bytes a second and `latency` seconds a request, in front of files that are in memory."""

    def __init__(self, rate: float, latency: float) -> None:
        super().__init__()
        self._rate, self._latency = rate, latency
        self._ready: dict[tuple[str, int], float] = {}  # when each block is, or will be, in memory
        self._free = 0.0

    def read_into(self, reader: int, path: str, buffers: list[np.ndarray], offset: int, wanted: int) -> int:
        ready = self._fetch(path, offset, wanted)
        if ready > time.perf_counter():
            time.sleep(ready - time.perf_counter())
        return super().read_into(reader, path, buffers, offset, wanted)

    def advise(self, reader: int, path: str, offset: int, length: int) -> None:
        self._fetch(path, offset, length)

    def _fetch(self, path: str, offset: int, length: int) -> float:
        """Ask for what is missing; returns when all of it is there."""
        blocks = [(path, block) for block in range(offset // BLOCK, (offset + length - 1) // BLOCK + 1)]
        missing = [block for block in blocks if block not in self._ready]
        if missing:
            start = max(self._free, time.perf_counter()) + self._latency
            for block in missing:
                start += BLOCK / self._rate
                self._ready[block] = start
            self._free = start
        return max(self._ready[block] for block in blocks)


@click.command()
@click.option("--steps", default=12, show_default=True, help="Steps of 8 samples.")
@click.option("--compute", default=200.0, show_default=True, help="Milliseconds that a step computes.")
@click.option("--rate", default=400.0, show_default=True, help="MB/s of the throttled disk.")
@click.option(
    "--latency", default=0.5, show_default=True, help="Milliseconds a request of the throttled disk."
)
def main(steps: int, compute: float, rate: float, latency: float) -> None:
    """Print how long steps wait for cold data."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cache = real_keyframes(Path(folder) / "real", steps * BATCH // 8, batch=BATCH)
        click.echo(
            f"{steps} steps of {BATCH} samples, {compute:.0f} ms of computing each; data wait in ms a step: "
            f"first, median, mean; CPU ms a sample"
        )
        for name, throttled in (
            ("this machine's disk", False),
            (f"{rate:.0f} MB/s, {latency:.1f} ms", True),
        ):
            for ahead in (0, STEPS_AHEAD):
                files = ThrottledFiles(rate * 1e6, latency / 1e3) if throttled else OpenFiles()
                waits, cpu = _read(cache, steps, compute / 1e3, ahead, files)
                click.echo(
                    f"{name:<20} readahead of {ahead:>2} steps   {waits[0]:7.1f} {np.median(waits):7.1f} "
                    f"{waits.mean():7.1f}   {cpu:6.2f}"
                )


def _read(
    cache: Keyframes, steps: int, compute: float, ahead: int, files: OpenFiles
) -> tuple[np.ndarray, float]:
    """Data wait of each step in ms, and CPU time of a sample in ms."""
    array_reading.FILES = OpenFiles()
    batches = cache.steps(ahead=ahead)
    cache.forget()
    array_reading.FILES = files
    waits, cpu = [], 0.0
    for step in range(steps):
        start, used = time.perf_counter(), time.process_time()
        batches[step]
        waits.append((time.perf_counter() - start) * 1e3)
        cpu += time.process_time() - used
        time.sleep(compute)
    return np.array(waits), cpu / (steps * BATCH) * 1e3


if __name__ == "__main__":
    main()

"""A student's whole forward under torch.compile, in a process of its own that can be given up on.

    python -m benchmarks.gpu.whole_compiled --device cuda --packed build/gpu

Prints one line of JSON: seconds of compiling, and milliseconds of a step as it is and compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

from benchmarks.gpu.arithmetic import ARITHMETICS
from benchmarks.gpu.clouds import part_of, real_clouds
from benchmarks.gpu.lines import Row
from benchmarks.gpu.student_step import our_step, our_student
from benchmarks.gpu.timing import synchronise, times


def compiled_within(seconds: float, options: list[str]) -> Row | None:
    """What the process prints; None where it had not ended after so many seconds.

    Raises:
        RuntimeError: with its last words, if it failed.
    """
    command = [sys.executable, "-m", "benchmarks.gpu.whole_compiled", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(" | ".join(done.stderr.strip().splitlines()[-3:])[-600:])
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return row


@click.command()
@click.option("--device", "name", required=True)
@click.option("--packed", type=click.Path(path_type=Path), required=True)
@click.option("--width", default=256, show_default=True)
@click.option("--depth", default=6, show_default=True)
@click.option("--points", default=5_000, show_default=True)
@click.option("--clouds", "count", default=8, show_default=True)
@click.option("--arithmetic", default="bfloat16", show_default=True)
@click.option(
    "--compiler", default="inductor", show_default=True, help="`aot_eager` shows that all is traced."
)
def main(
    name: str, packed: Path, width: int, depth: int, points: int, count: int, arithmetic: str, compiler: str
) -> None:
    """Compile the whole of a student's forward, with its backward, and time steps of it."""
    device = torch.device(name)
    if device.type == "cpu":
        torch.set_num_threads(1)
    student = our_student(width, depth, device)
    clouds = real_clouds(packed, count, max(points, 3_000))
    on_device = (part_of(clouds, points) if points < 3_000 else clouds).to(device)
    step = our_step(student, "torch", on_device, ARITHMETICS[arithmetic], device)
    seconds = 0.4 if device.type == "cuda" else 0.1
    row: Row = {"width": width, "depth": depth, "points": points, "clouds": count, "arithmetic": arithmetic}
    row["as_it_is_ms"] = round(times(step, device, seconds=seconds).median, 4)
    student.forward = torch.compile(student.forward, backend=compiler)  # type: ignore[method-assign]
    began = time.monotonic()
    step()
    synchronise(device)
    row["compiling_s"] = round(time.monotonic() - began, 1)
    row["compiled_ms"] = round(times(step, device, seconds=seconds).median, 4)
    row["times_as_fast"] = round(row["as_it_is_ms"] / row["compiled_ms"], 3)
    click.echo(json.dumps(row))


if __name__ == "__main__":
    main()

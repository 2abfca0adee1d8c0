"""How a training's steps go: samples a second, the share of the time that it waits for batches, what the GPU does in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any, Protocol

import torch

from benchmarks.gpu.lines import Row
from benchmarks.gpu.timing import synchronise

WARM, LEAST = 4, 5
"""Steps before the clock runs, and at least so many while it does; on a CPU fewer."""


class OnDevice(Protocol):
    """A batch."""

    def to(self, device: torch.device) -> Any: ...


Step = Callable[[Any, int], float]


def pace(batches: Iterator[OnDevice], step: Step, size: int, device: torch.device, seconds: float) -> Row:
    """Take steps for about so many seconds, as a training does: each batch is waited for and brought to the device.

    size: samples in a batch.
    """
    warm, least = (WARM, LEAST) if device.type == "cuda" else (1, 2)
    for number in range(warm):
        step(next(batches).to(device), number)
    synchronise(device)
    took: list[float] = []
    waited = 0.0
    started = time.monotonic()
    while len(took) < least or time.monotonic() - started < seconds:
        before = time.monotonic()
        batch = next(batches).to(device)
        waited += time.monotonic() - before
        step(batch, warm + len(took))
        took.append(time.monotonic() - before)
    synchronise(device)
    whole = time.monotonic() - started
    return {
        "samples_per_s": round(size * len(took) / whole, 2),
        "ms_a_step": round(1e3 * whole / len(took), 3),
        "ms_a_step_median": round(1e3 * median(took), 3),
        "data_wait_share": round(waited / whole, 4),
        "steps": len(took),
    }


def on_the_gpu(batches: Iterator[OnDevice], step: Step, device: torch.device, steps: int = 3) -> Row:
    """What a GPU does in some steps: launches a step, and the milliseconds a step in which it does anything at all."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    for number in range(WARM):
        step(next(batches).to(device), number)
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.monotonic()
        for number in range(steps):
            step(next(batches).to(device), WARM + number)
        synchronise(device)
        whole = time.monotonic() - started
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    copies = [event for event in events if event.name.startswith(("Memcpy", "Memset"))]
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    longest: dict[str, float] = {}
    for event in events:
        name = event.name[:80]
        longest[name] = longest.get(name, 0.0) + event.time_range.elapsed_us()
    most = sorted(longest, key=lambda name: -longest[name])[:8]
    return {
        "launches_a_step": round((len(events) - len(copies)) / steps, 1),
        "copies_a_step": round(len(copies) / steps, 1),
        "busy_ms_a_step": round(covered(spans) / 1e3 / steps, 3),
        "profiled_ms_a_step": round(1e3 * whole / steps, 3),
        "kernels_ms_a_step": {name: round(longest[name] / 1e3 / steps, 3) for name in most},
    }


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much of a line the spans cover together: what overlaps counts once."""
    whole, end = 0.0, float("-inf")
    for begins, ends in sorted(spans):
        whole += max(0.0, ends - max(begins, end))
        end = max(end, ends)
    return whole

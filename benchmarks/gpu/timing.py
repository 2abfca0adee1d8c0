"""Times on a device: medians of device events after a warm-up, peak memory, and the rates that the machine itself reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Times:
    """Milliseconds of one call: median, least and most of `count`."""

    median: float
    least: float
    most: float
    count: int

    def row(self, name: str = "ms") -> dict[str, Any]:
        """For a cell's result."""
        spread = [round(self.least, 4), round(self.most, 4)]
        return {name: round(self.median, 4), f"{name}_spread": spread, "repeats": self.count}


def times(
    call: Callable[[], object], device: torch.device, *, seconds: float = 1.0, warmup: int = 3, most: int = 50
) -> Times:
    """How long a call takes on the device: each between two events, for about so many seconds, at least three times."""
    for _ in range(warmup):
        call()
    synchronise(device)
    found: list[float] = []
    ends = time.monotonic() + seconds
    while len(found) < 3 or (time.monotonic() < ends and len(found) < most):
        found.append(_once(call, device))
    return Times(median(found), min(found), max(found), len(found))


def _once(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gigabytes(call: Callable[[], object], device: torch.device) -> float | None:
    """Most memory that a call holds on a GPU, what lay there before included; None on a CPU."""
    if device.type != "cuda":
        return None
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) / 1e9


def copy_rate(device: torch.device, megabytes: int = 2048) -> float:
    """TB/s of a copy within the device's memory, bytes read and bytes written together."""
    source = torch.randn(megabytes * 2**18, device=device)
    into = torch.empty_like(source)
    found = times(lambda: into.copy_(source), device, seconds=0.3)
    return 2 * source.nbytes / (found.median * 1e-3) / 1e12


def product_rate(device: torch.device, dtype: torch.dtype, side: int = 8192, *, tf32: bool = False) -> float:
    """TFLOP/s of a square matrix product of random numbers. tf32: let float32 go through the matrix units."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        found = times(lambda: left @ right, device, seconds=0.3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * side**3 / (found.median * 1e-3) / 1e12

"""How the benchmark counts what a GPU does in a step, and how a step's parts fit together, on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY))  # `benchmarks` is no package that is installed

from benchmarks.gpu import pace, timing  # noqa: E402
from benchmarks.gpu.pace import covered  # noqa: E402
from benchmarks.gpu.sections import SECTIONS, shares_of, student, teacher  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("spans", "whole"),
    [
        ([], 0.0),
        ([(0, 1), (2, 4)], 3.0),
        ([(2, 4), (0, 3)], 4.0),
        ([(0, 10), (1, 2), (3, 4), (9, 12)], 12.0),
        ([(5, 5), (5, 6)], 1.0),
    ],
)
def test_what_overlaps_counts_once(spans: list[tuple[float, float]], whole: float) -> None:
    assert covered(spans) == whole


class Batch:
    """What a loader would give."""

    def to(self, device: torch.device) -> Batch:
        return self


def test_a_pace_is_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up clock: a batch takes 0.25 s to come and a step 1 s; the first step of all is not counted."""
    clock = SimpleNamespace(now=100.0)

    def batches() -> Any:
        while True:
            clock.now += 0.25
            yield Batch()

    def step(batch: Any, number: int) -> float:
        clock.now += 1.0 if number else 50.0
        return 0.0

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock.now))
    assert pace.pace(batches(), step, 8, CPU, 4.9) == {
        "samples_per_s": 6.4,
        "ms_a_step": 1250.0,
        "ms_a_step_median": 1250.0,
        "data_wait_share": 0.2,
        "steps": 4,
    }


def test_busy_time_is_that_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three kernels of 2 ms, two of them at the same time, and a copy, in two steps."""
    from torch.autograd import DeviceType

    spans = [("mm", 0, 2000), ("mm", 1000, 3000), ("norm", 4000, 6000), ("Memcpy HtoD", 6000, 6500)]
    events = [
        SimpleNamespace(
            name=name,
            device_type=DeviceType.CUDA,
            time_range=SimpleNamespace(start=start, end=end, elapsed_us=lambda s=start, e=end: e - s),
        )
        for name, start, end in spans
    ]

    class Profiler:
        def __init__(self, **choices: Any) -> None: ...

        def __enter__(self) -> Profiler:
            return self

        def __exit__(self, *error: Any) -> None: ...

        def events(self) -> list[Any]:
            return events

    monkeypatch.setattr("torch.profiler.profile", Profiler)
    row = pace.on_the_gpu(iter([Batch()] * 10), lambda batch, number: 0.0, CPU, steps=2)
    assert (row["launches_a_step"], row["copies_a_step"], row["busy_ms_a_step"]) == (1.5, 0.5, 2.75)
    assert row["kernels_ms_a_step"] == {"mm": 2.0, "norm": 1.0, "Memcpy HtoD": 0.25}


def test_rates_of_the_machine_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "times", lambda call, device, **more: timing.Times(0.5, 0.4, 0.6, 3))
    # 4 MiB read and 4 MiB written in half a millisecond; 64^3 multiplications and as many additions
    assert timing.copy_rate(CPU, 4) == pytest.approx(2 * 4 * 2**20 / 0.5e-3 / 1e12)
    assert timing.product_rate(CPU, torch.float32, 64) == pytest.approx(2 * 64**3 / 0.5e-3 / 1e12)


def test_shares_of_a_teacher_and_of_a_student_by_hand() -> None:
    assert teacher.ceiling_of(400.0, 100.0, together=True) == 100.0
    assert teacher.ceiling_of(400.0, 100.0, together=False) == pytest.approx(80.0)
    assert teacher.rates(90.0, 400.0, 100.0, 100.0, gigaflops=50.0, peak=30.0) == {
        "images_per_s": 90.0,
        "bare_per_s": 400.0,
        "decode_per_s": 100.0,
        "share_of_ceiling": 0.9,
        "bound_by": "decoding",
        "gigaflop_an_image": 50.0,
        "tflop_per_s": 4.5,
        "peak_tflop_per_s": 30.0,
        "share_of_peak": 0.15,
        "bare_share_of_peak": 0.6667,
    }
    assert student.shares(80.0, 8, 16.0) == {
        "ms_a_cloud": 10.0,
        "products_ms": 16.0,
        "share_of_products": 0.2,
    }


def test_time_is_shared_by_worth() -> None:
    assert sum(shares_of(list(SECTIONS))) == pytest.approx(1.0)
    assert shares_of(["runs", "machine"]) == pytest.approx([0.22 / 0.27, 0.05 / 0.27])
    assert shares_of(["machine"]) == [1.0]

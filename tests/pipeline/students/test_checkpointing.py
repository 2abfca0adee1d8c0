"""Activation checkpointing changes no number, moves running statistics once, and needs less memory."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.small_students import DEPTH, batch, make_student, results
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import Norm, WaffleIron, recomputed

torch.set_num_threads(1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_same_bits(norm: Norm, backend: str, training: bool) -> None:
    clouds, drop = batch([25, 3, 12]), masks(0, 0, [5, 6, 7], DEPTH, 0.5)
    again, kept = (
        results(make_student(backend, norm, checkpointing=on).train(training), clouds, drop)  # type: ignore[arg-type]
        for on in (True, False)
    )
    for name, value in kept.items():
        assert torch.equal(again[name], value), name
    if norm == "batch":
        assert again["channel_mix.0.norm.num_batches_tracked"] == int(training)


def test_under_autocast_the_same_bits() -> None:
    clouds = batch([60, 40], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, kept = (
            results(make_student("torch", checkpointing=on).float().train(), clouds) for on in (True, False)
        )
    for name, value in kept.items():
        assert torch.equal(again[name], value), name


def test_norms_are_left_as_they_were_when_the_way_back_fails() -> None:
    norm = torch.nn.BatchNorm1d(3)
    rows = torch.randn(5, 3, requires_grad=True)
    own, calls = norm.running_mean, []

    def run(rows: torch.Tensor) -> torch.Tensor:
        calls.append(norm.running_mean is own)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return norm(rows)

    with pytest.raises(RuntimeError, match="out of memory"):
        recomputed([norm], run, rows).sum().backward()
    assert calls == [True, False]
    assert norm.running_mean is own
    assert norm.num_batches_tracked == 1


def test_without_gradients_nothing_is_recomputed() -> None:
    clouds = batch([9, 4])
    with torch.no_grad():
        again, kept = (make_student("torch", checkpointing=on)(clouds) for on in (True, False))
    assert torch.equal(again, kept)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_less_memory(backend: str) -> None:
    clouds = batch([200, 200])
    peaks = {}
    for on in (True, False):
        student = make_student(backend, width=64, depth=6, checkpointing=on)  # type: ignore[arg-type]
        features = torch.randn(400, 64, dtype=torch.float64, requires_grad=True)

        def step(student: WaffleIron = student, features: torch.Tensor = features) -> None:
            student.mix(features, clouds).sum().backward()

        step()
        peaks[on] = peak_bytes(step)
    # kept: at least 3 tensors of a layer's rows; again: the one that goes into the layer
    assert peaks[True] < 0.7 * peaks[False]


def peak_bytes(step: object) -> int:
    """Most memory that a step's tensors hold at once, by the allocator's events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()  # type: ignore[operator]
    changes = [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return int(np.cumsum([size for _, size in sorted(changes)]).max())

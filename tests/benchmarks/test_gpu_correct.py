"""What `benchmarks.gpu` calls right: the sound backend passes, and one that is broken in the least way does not."""

from __future__ import annotations

import os
from math import isclose, isnan
from typing import Any

import pytest
import torch

from benchmarks.gpu.agreement import Agreement, batches
from benchmarks.gpu.arithmetic import ARITHMETICS
from benchmarks.gpu.cells import Wrong
from benchmarks.gpu.fixed_step import fixed, planes_laid
from benchmarks.gpu.losses_and_sampling import losses, sampling
from benchmarks.gpu.odd_clouds import SHAPES, scattered
from benchmarks.gpu.same_bits import same_bits
from benchmarks.gpu.small_students import make_student, results
from pipeline.students import packed_channel_mix, sparse_mix
from pipeline.students.packed import pack
from pipeline.students.waffleiron import WaffleIron

CPU = torch.device("cpu")


@pytest.fixture
def agreement() -> Agreement:
    torch.set_num_threads(1)
    return Agreement(CPU, batches(quick=True))


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_the_sound_backend_is_right(agreement: Agreement, name: str) -> None:
    row = agreement.row("torch", name)
    assert 0 < row["output"] < row["output_bound"]
    assert 0 < row["gradient"] < row["gradient_bound"]
    assert row.get("of_reference", 0) < 1.5


@pytest.mark.parametrize(("name", "off"), [("float64", 1e-12), ("float32", 3e-5), ("bfloat16", 0.2)])
def test_an_output_that_is_a_little_off_is_wrong(
    agreement: Agreement, monkeypatch: pytest.MonkeyPatch, name: str, off: float
) -> None:
    sound = sparse_mix._collect
    monkeypatch.setattr(sparse_mix, "_collect", lambda *given: sound(*given) * (1 + off))
    with pytest.raises(Wrong) as error:
        agreement.row("torch", name)
    assert error.value.figures["backend"] == "torch"


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_an_output_that_is_no_number_is_wrong(
    agreement: Agreement, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One NaN that no gradient sees; a comparison with a NaN is false whichever way it is written."""
    sound = agreement._found

    def spoilt(*given: Any) -> dict[str, torch.Tensor]:
        found = dict(sound(*given))
        if "torch" in given and found["output"].numel():  # `reference` stays sound
            found["output"] = found["output"].clone()
            found["output"].view(-1)[0] = float("nan")
        return found

    monkeypatch.setattr(agreement, "_found", spoilt)
    with pytest.raises(Wrong) as error:
        agreement.row("torch", name)
    assert isnan(error.value.figures["output"])


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
def test_a_gradient_that_is_left_out_is_wrong(
    agreement: Agreement, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A large one in 16 bits, where it may be lost among what switches turn round."""
    sound = packed_channel_mix.normalised_backward
    monkeypatch.setattr(packed_channel_mix, "normalised_backward", lambda *given: 0 * sound(*given))
    with pytest.raises(Wrong, match=r"gradients|times what the reference loses"):
        agreement.row("torch", name)


def test_bounds_follow_the_arithmetic() -> None:
    bounds = {name: one.output_bound(3) for name, one in ARITHMETICS.items()}
    assert (
        bounds["float64"] < bounds["float32"] < bounds["float16"] < bounds["tf32"] < bounds["bfloat16"] < 0.03
    )
    # sqrt(38) roundings in squares, and 38 of the sums
    assert isclose(bounds["float32"], (38**0.5 + 38) * 2.0**-24)
    assert all(one.gradient_bound(3) < 0.5 for one in ARITHMETICS.values())


def test_flags_of_tf32_are_given_back() -> None:
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    with ARITHMETICS["tf32"].on(CPU):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    with ARITHMETICS["float32"].on(CPU):
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_losses_and_sampling_on_a_cpu() -> None:
    assert set(sampling(CPU)) == {"float32", "float16", "int8"}
    assert losses(CPU)["distillation_bfloat16_gradient"] > 1e-4


def test_two_runs_are_the_same_and_different_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = pack([scattered(40, 0), scattered(30, 1)])
    row = same_bits("torch", ARITHMETICS["float32"], clouds, CPU, 7, 3, SHAPES)
    assert row["same_bits"]
    assert row["differ"] == 0
    sound = WaffleIron.forward

    def noisy(self: WaffleIron, *given: object) -> torch.Tensor:
        return sound(self, *given) * (1 + 1e-3 * int.from_bytes(os.urandom(1)))  # type: ignore[arg-type]

    monkeypatch.setattr(WaffleIron, "forward", noisy)
    with pytest.raises(Wrong, match="bits differ with deterministic algorithms"):
        same_bits("torch", ARITHMETICS["float32"], clouds, CPU, 7, 3, SHAPES)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_step_whose_tables_are_laid_is_the_same_step() -> None:
    clouds = pack([scattered(40, 0), scattered(30, 1)])
    still = fixed(clouds)
    still.features.requires_grad_()
    student = make_student("torch").float()
    expected = results(student, still)
    with planes_laid(student, still):
        found = results(student, still)
    for name, value in expected.items():
        if "gradient" in name or name == "output":
            assert torch.equal(found[name], value), name

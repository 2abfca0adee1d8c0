"""Steps in each precision: float16 as a plain loop with autocast and a gradient scaler makes them, skipped ones and all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cache_schemas.errors import GriddleError
from pipeline.config.training import Optimiser, Precision
from pipeline.training.schedule import rate_of
from pipeline.training.stepping import SMALLEST_SCALE, Stepping, autocast

CPU = torch.device("cpu")
TRAINING = Optimiser(epochs=12, batch=1, lr=0.01, warmup=3)


def small() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def loss_at(model: nn.Module, step: int) -> Tensor:
    """Of a batch of its step; that of step 5 has gradients that overflow at any scale which others can bear."""
    generator = torch.Generator().manual_seed(step)
    out: Tensor = model(torch.randn(16, 6, generator=generator)).float().square().mean()
    return out * (1e5 if step == 5 else 1.0)


def stepped(
    model: nn.Module, optimiser: torch.optim.Optimizer, stepping: Stepping, precision: Precision, steps: range
) -> None:
    for step in steps:
        for group in optimiser.param_groups:
            group["lr"] = rate_of(TRAINING, step, per_epoch=1)
        with autocast(precision, "cpu"):
            loss = loss_at(model, step)
        stepping.backward(loss)
        stepping.step()


def test_float16_is_the_published_loop_to_the_bit() -> None:
    """utils/distiller.py: scale, step, update; the scheduler steps in each iteration, skipped or not."""
    model, optimiser = small()
    scaler = torch.amp.GradScaler("cpu")
    factor = [rate_of(TRAINING, step, per_epoch=1) / 0.01 for step in range(13)]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor[step])
    scales = []
    for step in range(12):
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = loss_at(model, step)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        scheduler.step()
        scales.append(scaler.get_scale())
    other, of_other = small()
    stepping = Stepping(other, of_other, "float16", CPU)
    stepped(other, of_other, stepping, "float16", range(12))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    lost = sum(after < before for before, after in zip([2.0**16, *scales], scales, strict=False))
    assert stepping.skipped == lost >= 1
    assert lost < 12


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_precisions_step_as_ever_and_skip_nothing(precision: Precision) -> None:
    model, optimiser = small()
    for step in range(8):
        for group in optimiser.param_groups:
            group["lr"] = rate_of(TRAINING, step, per_epoch=1)
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_at(model, step)
        loss.backward()
        optimiser.step()
    other, of_other = small()
    stepping = Stepping(other, of_other, precision, CPU)
    stepped(other, of_other, stepping, precision, range(8))
    assert stepping.skipped is None
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_skipped_step_moves_nothing_and_the_next_one_does() -> None:
    model, optimiser = small()
    stepping = Stepping(model, optimiser, "float16", CPU)
    seen = []
    for loss in (1e9, 1.0):
        before = model[0].weight.detach().clone()  # type: ignore[index,union-attr]
        with autocast("float16", "cpu"):
            out = loss_at(model, 0) * loss
        stepping.backward(out)
        stepping.step()
        seen.append((stepping.skipped, torch.equal(before, model[0].weight)))  # type: ignore[index,arg-type]
    assert seen == [(1, True), (1, False)]


@pytest.mark.parametrize("cut_at", [3, 6])
def test_the_scaler_goes_on_where_it_was(tmp_path: Path, cut_at: int) -> None:
    whole, of_whole = small()
    undisturbed = Stepping(whole, of_whole, "float16", CPU)
    stepped(whole, of_whole, undisturbed, "float16", range(12))
    first, of_first = small()
    begun = Stepping(first, of_first, "float16", CPU)
    stepped(first, of_first, begun, "float16", range(cut_at))
    begun.save(tmp_path, "run", cut_at)
    again, of_again = small()
    goes_on = Stepping(again, of_again, "float16", CPU)
    assert goes_on.resume(tmp_path, "run") == cut_at
    assert goes_on.skipped == begun.skipped
    stepped(again, of_again, goes_on, "float16", range(cut_at, 12))
    assert goes_on.skipped == undisturbed.skipped
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    plain = Stepping(*small(), "float32", CPU)
    assert plain.resume(tmp_path, "run") == cut_at


def test_gradients_that_always_overflow_are_an_error() -> None:
    model, optimiser = small()
    stepping = Stepping(model, optimiser, "float16", CPU)
    before = model[0].weight.detach().clone()  # type: ignore[index,union-attr]

    def spoilt() -> None:
        stepping.backward((model(torch.ones(1, 6)) * 1e30).sum() * 1e30)
        stepping.step()

    for _ in range(32):
        spoilt()
    with pytest.raises(GriddleError, match=r"overflow float16 .* 33 in all.* Write `precision: bfloat16`"):
        spoilt()
    assert torch.equal(before, model[0].weight)  # type: ignore[index,arg-type]
    assert SMALLEST_SCALE == 2.0**16 * 0.5**32

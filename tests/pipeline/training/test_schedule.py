"""The learning rate against the published formula, run by torch's own scheduler."""

import numpy as np
import pytest
import torch

from pipeline.training.schedule import learning_rate

CASES = [(2e-3, 1e-5, 7, 60), (1e-3, 0.0, 0, 25), (2e-3, 2e-3, 5, 30), (1e-4, 1e-6, 1, 2)]


@pytest.mark.parametrize(("peak", "minimum", "warmup", "total"), CASES)
def test_equals_a_lambda_scheduler(peak: float, minimum: float, warmup: int, total: int) -> None:
    def factor(t: int) -> float:
        m = minimum / peak
        return (
            t / warmup
            if t < warmup
            else m + (1 - m) / 2 * (1 + np.cos(np.pi * (t - warmup) / (total - warmup)))
        )

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    for step in range(total + 1):
        ours = learning_rate(step, peak=peak, minimum=minimum, warmup_steps=warmup, total_steps=total)
        assert ours == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12, abs=1e-18)
        optimiser.step()
        scheduler.step()


def test_the_first_step_moves_nothing_and_the_peak_follows_the_warmup() -> None:
    rates = [learning_rate(t, peak=2.0, minimum=0.5, warmup_steps=4, total_steps=10) for t in range(11)]
    assert rates[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert rates[7] == pytest.approx(1.25)
    assert rates[10] == 0.5
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(
    ("step", "change", "message"),
    [
        (0, {"warmup_steps": 10}, "warm-up of 10 steps does not fit in a run of 10"),
        (11, {}, "step 11 lies outside"),
        (-1, {}, "step -1 lies outside"),
        (0, {"minimum": 3.0}, "minimum <= peak"),
        (0, {"peak": 0.0, "minimum": 0.0}, "peak > 0"),
    ],
)
def test_impossible_schedules_are_refused(step: int, change: dict[str, float], message: str) -> None:
    base = {"peak": 2.0, "minimum": 0.5, "warmup_steps": 4, "total_steps": 10}
    with pytest.raises(ValueError, match=message):
        learning_rate(step, **(base | change))

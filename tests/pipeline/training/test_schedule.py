"""The learning rate against the published formula, run by torch's own scheduler."""

import numpy as np
import pytest
import torch

from pipeline.config.training import Optimiser
from pipeline.training.schedule import learning_rate, rate_of, reciprocal_sqrt

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


PLUS = {"warmup_epochs": 1, "timescale": 0.45, "cooldown_epoch": 63, "epochs": 65, "schedule": "rsqrt"}


def plus_factor(t: int, per_epoch: int) -> float:
    """facts.md section 2, in epochs: W 1, C 63, tau 0.45, M 65."""
    w, c, tau, m = (n * per_epoch for n in (1, 63, 0.45, 65))
    if t <= w:
        return t / w
    if t <= c:
        return 1 / np.sqrt(1 + (t - w) / tau)
    return (1 / np.sqrt(1 + c / tau)) * (m - c - (t - c) - 1) / (m - c - 1) if t < m else 0.0


@pytest.mark.parametrize("per_epoch", [1, 7, 100])
def test_the_reciprocal_root_is_scalr_plus_pointwise(per_epoch: int) -> None:
    optimiser = Optimiser.model_validate(PLUS)
    for step in range(65 * per_epoch + 1):
        expected = 2e-3 * plus_factor(step, per_epoch)
        assert rate_of(optimiser, step, per_epoch) == pytest.approx(expected, rel=1e-14, abs=1e-20)


def test_the_reciprocal_root_at_the_published_length() -> None:
    """6,887 steps an epoch (55,100 scans by 8): the ends, and the small step down where the cooldown starts."""
    optimiser, per_epoch = Optimiser.model_validate(PLUS), 6887
    rates = [
        rate_of(optimiser, t, per_epoch) / 2e-3 for t in (0, 1, per_epoch, 63 * per_epoch, 63 * per_epoch + 1)
    ]
    assert rates[:3] == [0.0, 1 / per_epoch, 1.0]
    assert rates[3] == pytest.approx(0.0849, abs=5e-5)
    assert rates[4] == pytest.approx(0.0842, abs=5e-5)
    assert rates[3] - rates[4] > 5e-4
    last = 65 * per_epoch
    assert rate_of(optimiser, last - 2, per_epoch) > 0
    assert rate_of(optimiser, last - 1, per_epoch) == rate_of(optimiser, last, per_epoch) == 0.0


def test_a_cosine_whose_warmup_is_said_in_steps_or_in_epochs() -> None:
    steps = Optimiser(epochs=10, warmup=20)
    epochs = Optimiser(epochs=10, warmup_epochs=2)
    rates = [[rate_of(one, step, 10) for step in range(100)] for one in (steps, epochs)]
    assert rates[0] == rates[1]
    assert rates[0][20] == 2e-3 == max(rates[0])


@pytest.mark.parametrize("schedule", ["cosine", "rsqrt"])
def test_a_run_too_short_for_its_warmup(schedule: str) -> None:
    short = Optimiser.model_validate({"epochs": 2, "schedule": schedule})
    rates = [rate_of(short, step, 3) for step in range(6)]
    assert rates[0] == 0.0
    assert max(rates) <= 2e-3
    assert min(rates[1:]) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"warmup_steps": 0},
        {"warmup_steps": 9},
        {"cooldown_start": 11},
        {"timescale": 0.0},
        {"step": 11},
        {"step": -1},
    ],
)
def test_impossible_reciprocal_roots_are_refused(change: dict[str, float]) -> None:
    base = {
        "step": 0,
        "peak": 1.0,
        "warmup_steps": 2,
        "cooldown_start": 8,
        "timescale": 1.0,
        "total_steps": 10,
    }
    with pytest.raises(ValueError, match=r"do not fit|lies outside"):
        reciprocal_sqrt(**(base | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cooldown_epoch": 26}, "lies behind the last of 25 epochs"),
        ({"cooldown_epoch": 3, "warmup_epochs": 4}, "before the end of the warm-up"),
        ({"weight_decay": "papers"}, "a number, or paper or released"),
        ({"schedule": "linear"}, r"cosine. or .rsqrt"),
    ],
)
def test_what_an_optimiser_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimiser.model_validate(change)


def test_a_source_may_stand_for_its_number() -> None:
    assert (
        Optimiser.model_validate({"weight_decay": "paper"}).resolved()
        == Optimiser(weight_decay=3e-4).resolved()
    )
    assert Optimiser.model_validate({"weight_decay": "released"}) == Optimiser()

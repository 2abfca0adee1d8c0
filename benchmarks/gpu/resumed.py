"""Is a pretraining that was stopped and goes on the one that was never stopped? To the bit, where two that were never
stopped are the same to the bit; otherwise as far from them as they are from each other."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu.cells import Cells, Wrong
from benchmarks.gpu.lines import Row
from benchmarks.gpu.toy_runs import Experiment, ToyRuns
from pipeline.training.checkpoint import newest
from pipeline.training.lease import Lease
from pipeline.training.pretrain import pretrain
from pipeline.training.run_folder import WEIGHTS

STOP = 2
"""Steps after which it is stopped, of six, or on a CPU of three."""
FAR = 10.0
"""How many times as far from the others it may be as they are from each other."""


class _Stopped(Exception):
    pass


class _StopsAfter:
    """A lease that lets so many steps pass."""

    def __init__(self, lease: Lease, steps: int) -> None:
        self._lease, self._left = lease, steps

    def check(self) -> None:
        self._lease.check()
        if self._left == 0:
            raise _Stopped
        self._left -= 1


def resumed(toy: ToyRuns, cells: Cells, name: str, **student: Any) -> Row:
    """Pretrain twice in one go and once in two; what differs.

    Raises:
        Wrong: if the one that was stopped is farther from the others than they are from each other.
    """
    runs: list[Experiment] = []
    for which in ("whole", "again", "stopped"):
        experiment = toy.experiment(
            f"{name}-{which}",
            students={"student": toy.student(**student)},
            checkpoint_minutes=1e-9,  # after every step
        )
        if which == "stopped":
            _train(experiment, cells.device, STOP)
            kept = newest(experiment.run_folder / "resume")
            if kept is None or kept.name != f"step-{STOP:09d}.pt":
                raise Wrong(f"stopped after {STOP} steps, its newest checkpoint is {kept}")
        _train(experiment, cells.device, None)
        runs.append(experiment)
    whole, again, stopped = (load_file(run.run_folder / WEIGHTS) for run in runs)
    losses = [[step["loss"] for step in run.metrics()] for run in runs]
    row = {
        "two_whole_runs": _differences(whole, again, losses[0], losses[1]),
        "stopped_and_whole": _differences(whole, stopped, losses[0], losses[2]),
    }
    apart, far = row["two_whole_runs"]["largest"], row["stopped_and_whole"]["largest"]
    if far > FAR * apart:
        raise Wrong(
            "a run that was stopped and went on is another than the one that was never stopped, "
            + (
                "while two such runs are the same to the bit" if apart == 0 else "more than two such runs are"
            ),
            **row,
        )
    return row


def _train(experiment: Experiment, device: torch.device, steps: int | None) -> None:
    """Train on from where it is, to the end or for so many steps."""
    with Lease(experiment.run_folder) as lease:
        held: Any = lease if steps is None else _StopsAfter(lease, steps)
        try:
            pretrain(experiment.plan.experiment, experiment.run, device, held)
        except _Stopped:
            if steps is None:
                raise


def _differences(
    one: dict[str, Tensor], other: dict[str, Tensor], losses: list[float], of_other: list[float]
) -> dict[str, Any]:
    """Whether all bits are the same; if not, how many tensors differ, by how much, and since which step losses do."""
    apart = {
        name: float((value.double() - other[name].double()).norm() / value.double().norm().clamp_min(1e-30))
        for name, value in one.items()
        if not torch.equal(value, other[name])
    }
    steps = [step for step, (a, b) in enumerate(zip(losses, of_other, strict=True), 1) if a != b]
    worst = max(apart, key=lambda name: apart[name], default=None)
    return {
        "same_bits": not apart,
        "tensors_that_differ": len(apart),
        "of": len(one),
        "largest": apart[worst] if worst else 0.0,
        "in": worst,
        "losses_differ_from_step": steps[0] if steps else None,
    }

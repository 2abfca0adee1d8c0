"""Pretraining that is cut off goes on as if nothing had happened, and learns what it should."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cache_schemas.errors import BadInput, GriddleError
from pipeline.common.run_files import WEIGHTS
from pipeline.plan.plan import Plan
from pipeline.students.backends import backend_for
from pipeline.training import pretrain as training
from pipeline.training.lease import Lease

CPU = torch.device("cpu")


@pytest.fixture
def plan(finished: Any) -> Plan:
    """A plan whose cache is there and whose run, another one than the finished, is not; 6 steps."""

    def change(config: dict[str, Any]) -> None:
        config["students"]["wi_tiny"]["pretrain"] = {"epochs": 3, "batch": 1, "warmup": 1, "lr": 0.01}
        config["students"]["wi_tiny"]["network"]["stochastic_depth"] = 0.2
        config["checkpoint_minutes"] = 1e-9

    finished.edit(change)
    return finished.plan()


def train(plan: Plan) -> Path:
    (run,) = plan.runs.values()
    folder = plan.experiment.run_path(run)
    with Lease(folder) as lease:
        return training.pretrain(plan.experiment, run, CPU, lease)


def rows(folder: Path) -> list[tuple[str, str]]:
    with open(folder / "metrics.csv") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("cut_at", [1, 4])
def test_a_run_that_was_cut_off_ends_as_an_undisturbed_one(
    plan: Plan, cut_at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = train(plan)
    weights, losses = load_file(folder / WEIGHTS), rows(folder)
    assert [step for step, _ in losses] == ["1", "2", "3", "4", "5", "6"]
    folder.rename(tmp_path / "undisturbed")

    real = training.features_of

    def cut(model: Any, batch: Any, step: int, run: Any) -> Any:
        if step == cut_at:
            raise KeyboardInterrupt
        return real(model, batch, step, run)

    monkeypatch.setattr(training, "features_of", cut)
    with pytest.raises(KeyboardInterrupt):
        train(plan)
    assert not (folder / "done.json").exists()
    monkeypatch.setattr(training, "features_of", real)
    train(plan)

    again = load_file(folder / WEIGHTS)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert rows(folder) == losses
    assert not (folder / "lease.json").exists()


def test_how_it_is_computed_changes_no_id_and_no_weight(
    plan: Plan, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(train(plan) / WEIGHTS)
    assert "on cpu, backend torch" in capsys.readouterr().err
    (folder,) = (plan.experiment.run_path(run) for run in plan.runs.values())
    folder.rename(tmp_path / "kept")

    def recompute(config: dict[str, Any]) -> None:
        config["students"]["wi_tiny"]["network"] |= {"checkpointing": True, "backend": "torch"}

    finished.edit(recompute)
    assert train(finished.plan()) == folder
    again = load_file(folder / WEIGHTS)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_float16_goes_on_with_its_scale_and_counts_what_it_skips(
    plan: Plan, finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """A skipped step is no loss that is not finite, and it counts for the schedule."""
    rates = _column(train(plan), "lr")
    finished.edit(lambda config: config["students"]["wi_tiny"]["pretrain"].update(precision="float16"))
    short = finished.plan()
    real, scaled = training.features_of, training.distillation_loss
    monkeypatch.setattr(training, "distillation_loss", lambda found, wanted: scaled(found, wanted) * 100)
    folder = train(short)
    weights, skipped = load_file(folder / WEIGHTS), _column(folder, "skipped")
    assert 0 < int(skipped[-1]) < 6, skipped
    assert _column(folder, "lr") == rates
    assert json.loads((folder / "provenance.json").read_text())["skipped_steps"] == int(skipped[-1])
    assert f"{skipped[-1]} steps skipped (float16)" in capsys.readouterr().err
    folder.rename(tmp_path / "undisturbed")

    def cut(model: Any, batch: Any, step: int, run: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return real(model, batch, step, run)

    monkeypatch.setattr(training, "features_of", cut)
    with pytest.raises(KeyboardInterrupt):
        train(short)
    monkeypatch.setattr(training, "features_of", real)
    train(short)
    again = load_file(folder / WEIGHTS)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert _column(folder, "skipped") == skipped


def _column(folder: Path, name: str) -> list[str]:
    with open(folder / "metrics.csv") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_backend_that_cannot_run_here_is_refused(
    plan: Plan, finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.edit(lambda config: config["students"]["wi_tiny"]["network"].update(backend="triton"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backend_for.cache_clear()
    with pytest.raises(BadInput, match="write `backend: torch`"):
        train(finished.plan())


def test_a_loss_that_is_not_finite_stops_with_scans_and_checkpoint(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.features_of

    def spoil(model: Any, batch: Any, step: int, run: Any) -> Any:
        found, wanted = real(model, batch, step, run)
        return found * (float("nan") if step == 2 else 1.0), wanted

    monkeypatch.setattr(training, "features_of", spoil)
    with pytest.raises(GriddleError, match="the loss is nan at step 2") as stopped:
        train(plan)
    assert "nuscenes " in str(stopped.value)
    assert "step-000000002.pt" in str(stopped.value)

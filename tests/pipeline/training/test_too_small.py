"""Scans of which one point came back, or none in the field of view, alone in a batch: skipped and said, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cache_schemas.errors import BadInput
from pipeline.config.model import Config
from pipeline.plan.finetunes import FinetuneRun
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.probes import ProbeRun
from pipeline.streaming import scan_batches
from pipeline.streaming.scan_batches import ScanSteps
from pipeline.streaming.scan_source import LabelledPlace, ScanPoints
from pipeline.students.heads import class_head
from pipeline.training import finetune as training
from pipeline.training.labelled_task import prepare
from pipeline.training.probe import fit, run_probe
from pipeline.training.recorder import read_metrics
from pipeline.training.too_small import TooSmall, mean_by_epoch

torch.set_num_threads(1)
CPU = torch.device("cpu")


class Untroubled:
    """A lease that nobody contests."""

    def check(self) -> None:
        pass


class Killed(Untroubled):
    """Ends a training at its check `at`."""

    def __init__(self, at: int) -> None:
        self._left = at

    def check(self) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1


def one_point(scan: ScanPoints) -> ScanPoints:
    return ScanPoints(scan.xyz[:1] * 0 + 1, scan.intensity[:1], scan.label[:1])


def out_of_view(scan: ScanPoints) -> ScanPoints:
    return ScanPoints(scan.xyz + np.float32(1000), scan.intensity, scan.label)


def make_small(
    monkeypatch: pytest.MonkeyPatch,
    small: Callable[[ScanPoints], ScanPoints],
    is_small: Callable[[str], bool],
) -> None:
    """In training some scans have no more than one point."""
    whole = scan_batches.training_sample
    sample = ScanSteps._sample

    def sample_small(steps: ScanSteps, place: LabelledPlace, epoch: int) -> Any:
        def changed(scan: ScanPoints, **given: Any) -> Any:
            return whole(small(scan) if is_small(place.name) else scan, **given)

        monkeypatch.setattr(scan_batches, "training_sample", changed)
        return sample(steps, place, epoch)

    monkeypatch.setattr(ScanSteps, "_sample", sample_small)


def plan_with(plan: Plan, **keys: Any) -> Plan:
    """With batches of one scan, trained from nothing, and what else is given."""
    config = plan.experiment.config.model_dump(mode="json")
    config["finetunes"]["all"] |= {"batch": 1, "epochs": 2, **keys}
    config["probes"]["p"] |= {"batch": 1, "epochs": 2, **keys}
    config["checkpoint_minutes"] = 1e-9
    return plan_experiment(Config.model_validate(config), plan.experiment.workdir)


def finetuning(plan: Plan) -> FinetuneRun:
    return next(row.runs[0] for row in plan.finetune_rows if (row.kind, row.name) == ("nothing", "all"))


def probe_of(plan: Plan, kind: str) -> ProbeRun:
    return next(row.runs[0] for row in plan.probe_rows if row.kind == kind)


def a_scan(plan: Plan, run: Any) -> str:
    steps = prepare(plan.experiment, run, CPU).steps
    assert isinstance(steps, ScanSteps)
    return steps.names(0)[0].split()[1]


@pytest.mark.parametrize("small", [one_point, out_of_view])
def test_a_finetuning_goes_on_without_it_and_a_restart_counts_all(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: Any, small: Callable[[ScanPoints], ScanPoints]
) -> None:
    other = plan_with(plan, lr=0.02 if small is one_point else 0.03)  # a folder each
    run = finetuning(other)
    tiny = a_scan(other, run)
    make_small(monkeypatch, small, lambda name: name == tiny)
    folder = other.experiment.run_path(run)
    training.finetune(other.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    said = capsys.readouterr().err
    points = 1 if small is one_point else 0
    assert f"a batch of {points} point(s) is too small to learn from, and is skipped: toy {tiny}" in said
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["too_small"] == {"batches": 2, "scans": [f"toy {tiny}"]}, "once in each epoch"
    assert np.isfinite(metrics["loss_by_epoch"]).all()
    rows = read_metrics(folder / "metrics.csv")
    per_epoch = metrics["scans"]["train"]
    assert len(rows) == 2 * per_epoch
    assert [row["loss"] for row in rows].count("nan") == 2
    whole = load_file(folder / "weights.safetensors")
    for name in ("weights.safetensors", "metrics.json", "provenance.json", "done.json", "metrics.csv"):
        (folder / name).unlink()
    for path in (folder / "resume").iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        training.finetune(other.experiment, run, CPU, Killed(5))  # type: ignore[arg-type]
    assert "nan" in [row["loss"] for row in read_metrics(folder / "metrics.csv")], "skipped before the kill"
    training.finetune(other.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    again = load_file(folder / "weights.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert json.loads((folder / "metrics.json").read_text())["too_small"] == metrics["too_small"]
    assert json.loads((folder / "metrics.json").read_text())["loss_by_epoch"] == metrics["loss_by_epoch"]
    (folder / "done.json").unlink()


@pytest.mark.parametrize("kind", ["distilled", "calibrated", "random", "scratch", "inputs"])
@pytest.mark.parametrize("small", [one_point, out_of_view])
def test_a_probe_goes_on_without_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, kind: str, small: Callable[[ScanPoints], ScanPoints]
) -> None:
    other = plan_with(plan)
    probe = probe_of(other, kind)
    tiny = a_scan(other, probe)
    make_small(monkeypatch, small, lambda name: name == tiny)
    folder = run_probe(other.experiment, probe, CPU, Untroubled())  # type: ignore[arg-type]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["too_small"] == {"batches": 2, "scans": [f"toy {tiny}"]}
    assert np.isfinite([*metrics["loss_by_epoch"], metrics["miou"]]).all()
    (folder / "done.json").unlink()


def test_the_teachers_probe_goes_on_without_it(plan: Plan) -> None:
    probe = probe_of(plan, "teacher")
    task = prepare(plan.experiment, probe, CPU)

    class Small:
        def __getitem__(self, step: int) -> Any:
            batch = task.steps[step]
            return replace(batch, labels=batch.labels[:1]) if step == 0 else batch

    head, too_small = class_head("linear", task.channels, 16, 0), TooSmall(probe.key)
    per_epoch = task.scans[0] // probe.block.batch
    changed = replace(task, steps=Small())
    losses = fit(changed, head, probe, per_epoch, workers=0, device=CPU, too_small=too_small)
    assert too_small.batches == 1
    assert len(too_small.scans) == probe.block.batch, "the names of all scans of the batch"
    assert all(name.startswith("toy ") for name in too_small.scans)
    assert all(loss is None or np.isfinite(loss) for loss in losses)


def test_a_batch_with_another_scan_is_learnt_from(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    other = plan_with(plan, batch=2)
    run = finetuning(other)
    tiny = a_scan(other, run)
    make_small(monkeypatch, one_point, lambda name: name == tiny)
    training.finetune(other.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    folder = other.experiment.run_path(run)
    assert json.loads((folder / "metrics.json").read_text())["too_small"] == {"batches": 0, "scans": []}
    (folder / "done.json").unlink()


def test_where_nothing_can_be_learnt_it_is_an_error(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    other = plan_with(plan, min_lr=2e-5)
    make_small(monkeypatch, one_point, lambda name: True)
    message = r"none of \d+ batches has 2 points to learn from in the field of view. Look at the lidar files of toy "
    with pytest.raises(BadInput, match=rf"finetunes.all: {message}"):
        training.finetune(other.experiment, finetuning(other), CPU, Untroubled())  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=rf"probes.p: {message}"):
        run_probe(other.experiment, probe_of(other, "random"), CPU, Untroubled())  # type: ignore[arg-type]


def test_the_mean_of_an_epoch_is_over_what_was_learnt_from() -> None:
    nan = float("nan")
    assert mean_by_epoch([1.0, 3.0, nan, 4.0, nan, nan, 5.0], 2) == [2.0, 4.0, None, 5.0]


def test_the_report_names_the_scans(tmp_path: Path) -> None:
    from pipeline.report.tables import Row, Table
    from pipeline.report.text import notes

    row = Row("distilled", "p", (0,), None, None, {}, 0, ())
    table = Table("s", "p", "t", "toy val", (), (row,), (), (), too_small=("toy a", "toy b"))
    assert "skipped: batches of fewer than 2 points, of 2 scan(s): toy a, toy b" in notes(table)

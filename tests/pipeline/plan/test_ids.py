"""Ids are what they were when they were pinned, and a run of that day is still this config's, done and readable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pinned_ids import PINNED, ids_of, plan_of
from safetensors.torch import load_file

from pipeline.config.load import load_config
from pipeline.plan.lot_status import read_lot
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.results import results_of
from pipeline.report.gather import gather
from pipeline.students.distilled import build
from pipeline.training.labelled_folder import is_scored
from pipeline.training.open_run import open_run
from pipeline.training.stepping import Stepping
from pipeline.training.weights_folder import is_complete

GOLDEN = Path(__file__).parents[2] / "golden"
REPOSITORY = GOLDEN.parents[1]

FILES = sorted(PINNED.glob("*.json"))


def test_every_config_is_pinned() -> None:
    configs = {path.stem for path in (REPOSITORY / "config").glob("*.yaml")}
    missing = configs - {path.stem for path in FILES}
    assert not missing, f"python tests/support/pinned_ids.py {' '.join(sorted(missing))}, and commit them"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ids_are_those_that_were_pinned(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert ids_of(plan_of(path.stem)) == json.loads(path.read_text())


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a workdir that an earlier day's code filled: runs, probes, baselines, finetunings, lots, an index."""
    shutil.copytree(GOLDEN / "_run", tmp_path / "work")
    monkeypatch.chdir(tmp_path)
    return plan_experiment(load_config("work/config.yaml"))


def test_all_of_an_old_workdir_is_this_plans_and_done(old: Plan) -> None:
    """Index, lots, runs, probes, finetunings lie where the plan looks for them, and are taken as they are."""
    for stage in STAGES:
        assert {old.experiment.lot_path(lot).name for lot in old.lots(stage)} == {
            path.name for path in (old.experiment.workdir / "lots" / stage).iterdir()
        }
        assert all(read_lot(old.experiment.lot_path(lot)) for lot in old.lots(stage))
    (run,) = old.runs.values()
    assert is_complete(old.experiment.run_path(run), run.id)
    labelled = {**old.probe_runs, **old.finetune_runs}
    assert {one.kind for one in labelled.values()} == {
        *("distilled", "random", "calibrated", "inputs", "teacher", "scratch"),
        *("nothing", "finetuned"),
    }
    for folder, one in labelled.items():
        assert is_scored(old.experiment.workdir / folder, one), folder
    markers = [*old.run_markers(), *old.probe_markers(), *old.finetune_markers()]
    assert sorted(map(Path, markers)) == sorted((old.experiment.workdir / "runs").rglob("done.json"))


def test_an_old_run_is_reported_and_opened(old: Plan) -> None:
    report = gather(results_of(old.experiment))
    assert [row.kind for table in report.tables for row in table.rows] == [
        *("distilled", "calibrated", "random", "scratch", "inputs", "teacher"),
        *("nothing", "distilled", "finetuned"),
    ]
    assert not [name for table in report.tables for row in table.rows for name in row.missing]
    (run,) = old.runs.values()
    opened = open_run(old.experiment.run_path(run))
    assert opened.student == run.student


def test_an_old_checkpoint_goes_on(old: Plan) -> None:
    (run,) = old.runs.values()
    model = build(run.student, run.seed, channels=192)
    optimiser = torch.optim.AdamW(model.parameters(), lr=run.student.pretrain.lr)
    stepping = Stepping(model, optimiser, run.student.pretrain.precision, torch.device("cpu"))
    assert stepping.resume(old.experiment.run_path(run) / "resume", run.id) == 6
    trained = load_file(old.experiment.run_path(run) / "weights.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())

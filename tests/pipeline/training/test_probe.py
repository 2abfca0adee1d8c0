"""Probes on a tiny cache: what stays as it is, what learns, and that scores are those of a naive count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache_schemas.errors import GriddleError
from pipeline.geometry.full_scan import full_scan
from pipeline.plan.plan import Plan
from pipeline.plan.probes import ProbeRun
from pipeline.streaming.order import steps_per_epoch
from pipeline.streaming.scan_batches import evaluation_sample
from pipeline.streaming.scan_source import ScanSource
from pipeline.students.distilled import build
from pipeline.students.heads import ProbeHead
from pipeline.students.packed import pack
from pipeline.training.labelled_folder import is_scored
from pipeline.training.labelled_task import Task, prepare, score
from pipeline.training.probe import fit
from stages.cli import main

torch.set_num_threads(1)
CPU = torch.device("cpu")


def probe_of(plan: Plan, kind: str) -> ProbeRun:
    return next(row.runs[0] for row in plan.probe_rows if row.kind == kind)


def learn(plan: Plan, kind: str) -> tuple[Task, ProbeHead, list[float]]:
    probe = probe_of(plan, kind)
    task = prepare(plan.experiment, probe, CPU)
    head = ProbeHead(task.channels, 16)
    per_epoch = steps_per_epoch(task.scans[0], probe.block.batch)
    return task, head, fit(task, head, probe, per_epoch, workers=0, device=CPU)


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["distilled", "calibrated", "random", "inputs", "teacher"])
def test_frozen_features_stay_bit_for_bit_while_the_head_learns(plan: Plan, kind: str) -> None:
    before = state(prepare(plan.experiment, probe_of(plan, kind), CPU).features)
    task, head, losses = learn(plan, kind)
    assert equal(state(task.features), before)
    assert head.linear.weight.abs().max() > 0
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_from_scratch_the_student_learns_too(plan: Plan) -> None:
    before = state(prepare(plan.experiment, probe_of(plan, "scratch"), CPU).features)
    task, _, losses = learn(plan, "scratch")
    assert not equal(state(task.features), before)
    assert losses[-1] < losses[0]


def test_the_first_logits_are_zero(plan: Plan) -> None:
    task = prepare(plan.experiment, probe_of(plan, "distilled"), CPU)
    logits = ProbeHead(task.channels, 16)(task.features.eval()(task.steps[0], 0))
    assert logits.eq(0).all()


def test_baselines_start_where_pretraining_starts(plan: Plan) -> None:
    run = plan.runs["s"]
    start = state(build(run.student, run.seed, channels=192).backbone)
    random = prepare(plan.experiment, probe_of(plan, "random"), CPU).features.backbone
    calibrated = prepare(plan.experiment, probe_of(plan, "calibrated"), CPU).features.backbone
    distilled = prepare(plan.experiment, probe_of(plan, "distilled"), CPU).features.backbone
    assert equal(state(random), start)
    moved = {name for name, value in state(calibrated).items() if not torch.equal(value, start[name])}
    assert moved == {name for name in start if "running_" in name or "num_batches" in name}
    assert not equal(state(distilled), start)
    assert int(calibrated.state_dict()["embedding.norm.num_batches_tracked"]) == 4


def test_a_probe_is_deterministic(plan: Plan) -> None:
    (_, first, losses), (_, second, again) = learn(plan, "calibrated"), learn(plan, "calibrated")
    assert losses == again
    assert equal(state(first), state(second))


def test_the_score_is_that_of_a_naive_count(plan: Plan) -> None:
    probe = probe_of(plan, "distilled")
    task, head, _ = learn(plan, "distilled")
    confusion, ignored = score(task, head, 16, workers=0, device=CPU)
    source = ScanSource(plan.experiment.cache, probe.evaluate)
    expected, unlabelled = np.zeros((16, 16), np.int64), 0
    for place in source.scans():
        scan = source.read(place)
        points = probe.student.points
        sample = evaluation_sample(
            scan,
            full_scan(scan.xyz, points),
            points=points,
            intensity=plan.experiment.traits["toy"].intensity,
        )
        with torch.no_grad():
            features = task.features.backbone(pack([sample.cloud]), None)
            kept = head(features).argmax(dim=1).numpy()
        at = sample.cloud.features[:, 1:4].astype(np.float64)
        for xyz, label in zip(scan.xyz, scan.label, strict=True):
            if label == 255:
                unlabelled += 1
                continue
            expected[label, kept[np.square(at - xyz).sum(axis=1).argmin()]] += 1
    np.testing.assert_array_equal(confusion.counts, expected)
    assert ignored == unlabelled


def test_the_teacher_is_scored_on_what_cameras_see(plan: Plan) -> None:
    task, head, _ = learn(plan, "teacher")
    confusion, ignored = score(task, head, 16, workers=0, device=CPU)
    seen = 0
    for lot in plan.lots("views"):
        if lot.split == "val":
            for path in (plan.experiment.store_path(lot.store)).glob("scene-0103.*.json"):
                seen += json.loads(path.read_text())["counts"]["seen_points"]
    assert confusion.counts.sum() + ignored == seen > 0


def test_the_command_probes_all_then_nothing_and_the_table_is_printed(
    config_path: Path, plan: Plan, capsys: Any
) -> None:
    main(["probe", "--config", str(config_path)])
    for probe in plan.probe_runs.values():
        folder = plan.experiment.run_path(probe)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert is_scored(folder, probe)
        assert 0 < metrics["miou"] < 1
        assert sum(map(sum, metrics["confusion"])) == metrics["points"] > 0
        assert metrics["left_out"] == []
        marker = folder / "done.json"
        marker.unlink()
    capsys.readouterr()
    main(["probe", "--config", str(config_path)])
    said = capsys.readouterr().err
    assert said.count("complete already") == len(plan.probe_runs)
    assert "step" not in said
    main(["report", "--config", str(config_path)])
    table = capsys.readouterr().out
    assert "distilled student" in table
    assert "stand-in teacher (untrained)" in table


def test_one_probe_by_its_names(config_path: Path, plan: Plan, capsys: Any) -> None:
    probe = probe_of(plan, "distilled")
    name = Path(probe.folder).name
    main(["probe", "--config", str(config_path), "--run", Path(probe.run.folder).name, "--probe", name])
    assert probe.folder in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["probe", "--config", str(config_path), "--run", "s-0"])
    assert ended.value.code == 2


def test_weights_of_another_student_are_refused(plan: Plan) -> None:
    path = plan.experiment.run_path(plan.runs["s"]) / "weights.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:1000])
        with pytest.raises(GriddleError, match="does not hold the weights that were trained"):
            prepare(plan.experiment, probe_of(plan, "distilled"), CPU)
        path.unlink()
        with pytest.raises(GriddleError, match="griddle pretrain --run s-"):
            prepare(plan.experiment, probe_of(plan, "distilled"), CPU)
    finally:
        path.write_bytes(whole)

"""Finetuning on a tiny cache: what learns at which rate, restarts to the bit, few labels, votes, and the table's rows."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cache_schemas.errors import BadInput, GriddleError
from pipeline.config.model import Config
from pipeline.losses.lovasz import IGNORE
from pipeline.plan.finetunes import FinetuneRun
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.results import results_of
from pipeline.report.gather import gather
from pipeline.report.text import terminal
from pipeline.students.distilled import build
from pipeline.students.heads import ProbeHead, class_head
from pipeline.training import finetune as training
from pipeline.training.export_weights import export
from pipeline.training.labelled_task import prepare, score
from pipeline.training.probe import fit
from pipeline.training.probe_features import student_features
from stages.cli import main

torch.set_num_threads(1)
CPU = torch.device("cpu")


class Untroubled:
    """A lease that nobody contests."""

    def check(self) -> None:
        pass


class Killed(Untroubled):
    """Ends a training at its check `at`: the first is before the curve begins, then each step has two, before its row and
    before its checkpoint."""

    def __init__(self, at: int) -> None:
        self._left = at

    def check(self) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1


def changed(plan: Plan, tmp_path: Path, **finetune: Any) -> tuple[Plan, FinetuneRun]:
    """The plan with another block `all`; what it writes goes elsewhere."""
    config = plan.experiment.config.model_dump(mode="json")
    config["finetunes"]["all"] |= finetune
    other = plan_experiment(Config.model_validate(config), plan.experiment.workdir)
    return other, run_of(other, "finetuned", "all")


def run_of(plan: Plan, kind: str, name: str = "all") -> FinetuneRun:
    return next(row.runs[0] for row in plan.finetune_rows if (row.kind, row.name) == (kind, name))


def test_every_tensor_learns_and_the_statistics_move(plan: Plan, tmp_path: Path) -> None:
    run = run_of(plan, "finetuned")
    task = prepare(plan.experiment, run, CPU)
    start = {name: value.clone() for name, value in task.features.state_dict().items()}
    training.finetune(plan.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    folder = plan.experiment.run_path(run)
    weights = load_file(folder / "weights.safetensors")
    still = [name for name, value in start.items() if torch.equal(value, weights[f"student.{name}"])]
    # Batch norm follows these: their sum with it does not change, and their gradients are 0 to rounding.
    assert [name for name in still if "neighbour_norm.bias" not in name] == []
    assert weights["head.linear.weight"].abs().max() > 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["finetune"] == "all"
    assert metrics["loss_by_epoch"][-1] < metrics["loss_by_epoch"][0]
    assert len(metrics["loss_by_epoch"]) == 3
    assert json.loads((folder / "done.json").read_text())["kind"] == "finetune"
    assert json.loads((folder / "provenance.json").read_text())["steps"] == 3 * (
        metrics["scans"]["train"] // 2
    )
    exported = export(folder, tmp_path / "ckpt_last.pth", module=False)
    assert (exported.key, exported.branch) == ("net", "main")


@pytest.mark.parametrize("precision", ["float32", pytest.param("float16", marks=pytest.mark.whole)])
def test_a_finetuning_that_was_killed_goes_on_to_the_same_bits(
    plan: Plan, tmp_path: Path, precision: str
) -> None:
    """Stochastic depth, order and augmentation are functions of the step: whole and in two parts is the same."""
    other, _ = changed(plan, tmp_path, precision=precision)
    run = run_of(other, "nothing")
    assert (run.id == run_of(plan, "nothing").id) == (precision == "float32")
    config = other.experiment.config.model_copy(update={"checkpoint_minutes": 1e-9})
    eager = plan_experiment(config, plan.experiment.workdir)
    training.finetune(eager.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    folder = plan.experiment.run_path(run)
    whole, curve = load_file(folder / "weights.safetensors"), (folder / "metrics.csv").read_text()
    for path in ("weights.safetensors", "metrics.json", "provenance.json", "done.json", "metrics.csv"):
        (folder / path).unlink()
    for path in (folder / "resume").iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        training.finetune(eager.experiment, run, CPU, Killed(5))  # type: ignore[arg-type]
    kept = sorted(path.name for path in (folder / "resume").iterdir())
    assert kept == ["step-000000001.pt", "step-000000002.pt"]
    training.finetune(eager.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    again = load_file(folder / "weights.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    losses = [
        [line.split(",")[:4] for line in text.splitlines()]
        for text in (curve, (folder / "metrics.csv").read_text())
    ]
    assert losses[0] == losses[1]
    assert ("skipped_steps" in json.loads((folder / "provenance.json").read_text())) == (
        precision == "float16"
    )


def test_a_probe_learns_in_float16(plan: Plan) -> None:
    from dataclasses import replace

    probe = plan.probe_rows[0].runs[0]
    task = replace(prepare(plan.experiment, probe, CPU), precision="float16")
    losses = fit(task, class_head("linear", 8, 16, 0), probe, task.scans[0] // 3, workers=0, device=CPU)
    assert losses[-1] < losses[0]


def test_from_nothing_starts_at_the_random_start(plan: Plan) -> None:
    start = build(plan.runs["s"].student, plan.runs["s"].seed, channels=192).backbone.state_dict()
    nothing = prepare(plan.experiment, run_of(plan, "nothing"), CPU).features.backbone
    finetuned = prepare(plan.experiment, run_of(plan, "finetuned"), CPU).features.backbone
    assert all(torch.equal(value, start[name]) for name, value in nothing.state_dict().items())
    assert not torch.equal(finetuned.state_dict()["embedding.point.weight"], start["embedding.point.weight"])
    assert nothing.drop_path == finetuned.drop_path == 0.2


def test_each_layer_has_the_published_rate_at_each_step(plan: Plan) -> None:
    """facts.md 1.7: factor of the schedule times 0.8 ** (4 - layer), the first step 0."""
    run = run_of(plan, "finetuned")
    task = prepare(plan.experiment, run, CPU)
    head = ProbeHead(8, 16)
    optimiser = training.optimiser_of(run.block, 3, training.model_of(task, head))
    w, total = 4, 12
    for step in range(total):
        factor = step / w if step < w else 0.5 * (1 + np.cos(np.pi * (step - w) / (total - w)))
        rate = training.set_rates(optimiser, run.block, step, per_epoch=4)
        assert rate == pytest.approx(0.02 * factor, rel=1e-14)
        scales = sorted({group["lr"] / rate if rate else 0.0 for group in optimiser.param_groups})
        assert scales == pytest.approx(sorted(0.8 ** (4 - i) for i in range(5)) if step else [0.0], rel=1e-14)


def test_branches_are_dropped_in_training_alone(plan: Plan) -> None:
    task = prepare(plan.experiment, run_of(plan, "finetuned"), CPU)
    batch = task.steps[0]
    with torch.no_grad():
        evaluated = [task.features.eval()(batch, step) for step in (0, 1)]
        trained = [task.features.train()(batch, step) for step in (0, 1)]
    assert torch.equal(*evaluated)
    assert not torch.equal(*trained)


def test_every_second_scan_and_a_list_of_scans(plan: Plan, tmp_path: Path) -> None:
    whole, half = (
        prepare(plan.experiment, run_of(plan, "finetuned"), CPU),
        prepare(plan.experiment, run_of(plan, "finetuned", "half"), CPU),
    )
    assert half.scans == (-(-whole.scans[0] // 2), whole.scans[1])
    places = whole.steps._scans
    chosen = [place.name for place in half.steps._scans]
    assert chosen == [place.name for place in places][::2]
    listed = tmp_path / "scans.txt"
    listed.write_text("# of my own\n" + "\n".join(chosen) + "\n\n")
    other, run = changed(plan, tmp_path, scans=str(listed))
    assert [place.name for place in prepare(other.experiment, run, CPU).steps._scans] == chosen
    assert run.id != run_of(plan, "finetuned").id
    elsewhere = tmp_path / "moved.txt"
    elsewhere.write_text("\n".join(reversed(chosen)))
    assert changed(plan, tmp_path, scans=str(elsewhere))[1].id == run.id, (
        "what it holds counts, not where it lies"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read as text"),
        ("# nothing\n", "names no scan"),
        ("a\nb\na\n", "names 1 scan\\(s\\) twice, the first a"),
        (
            "a\n",
            "names 1 scan\\(s\\) of 1 that have no labels in the train split, the first a; the split begins",
        ),
        ("a\nb\n", "names 2 scan\\(s\\) of 2 that have no labels in the train split, the first a"),
    ],
)
def test_lists_that_choose_no_scan_are_refused(
    plan: Plan, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "scans.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=message):  # while it is planned
        changed(plan, tmp_path, scans=str(path))


def test_a_list_of_fewer_scans_than_a_batch_is_refused_while_planning(plan: Plan, tmp_path: Path) -> None:
    (first, *_), *_ = plan.experiment.indices["toy"].scan_names().values()
    path = tmp_path / "scans.txt"
    path.write_text(first)
    with pytest.raises(
        BadInput, match=r"batch is 2, but the train split has only 1 scan.s. with labels that it learns from"
    ):
        changed(plan, tmp_path, scans=str(path))


def test_a_fraction_too_small_for_a_batch_is_refused_before_anything_runs(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"finetunes.all.batch is 2, but the train split has only 1 scan"):
        changed(plan, tmp_path, every=1000)
    with pytest.raises(ValueError, match="`every` and `scans` both choose"):
        changed(plan, tmp_path, every=2, scans="x")


def test_labels_that_are_all_ignored_are_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(plan, "finetuned", "half")
    task = prepare(plan.experiment, run, CPU)

    class Ignored:
        def __getitem__(self, step: int) -> Any:
            batch = task.steps[step]
            batch.labels.fill_(IGNORE)
            return batch

    from dataclasses import replace

    monkeypatch.setattr(training, "prepare", lambda *_: replace(task, steps=Ignored()))
    with pytest.raises(
        BadInput, match=r"finetunes.half: none of [\d,]+ points that it learns from has a class"
    ):
        training.finetune(plan.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]
    probe = plan.probe_rows[0].runs[0]
    of_probe = prepare(plan.experiment, probe, CPU)
    head = class_head("linear", 8, 16, 0)
    with pytest.raises(BadInput, match=r"probes.p: none of"):
        fit(replace(of_probe, steps=Ignored()), head, probe, 2, workers=0, device=CPU)


def test_a_loss_that_is_not_finite_names_the_scans(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(plan, "finetuned", "half")
    monkeypatch.setattr(training, "segmentation_loss", lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(
        GriddleError, match=r"is nan at step 0. The batch's scans:\n  toy .*\nThe last good checkpoint"
    ):
        training.finetune(plan.experiment, run, CPU, Untroubled())  # type: ignore[arg-type]


def test_votes_add_up_probabilities(plan: Plan) -> None:
    from dataclasses import replace

    run = run_of(plan, "finetuned", "half")
    task = prepare(plan.experiment, run, CPU)
    head = class_head("mlp", 8, 16, 3)
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
    confusion, _ = score(task, head, 16, workers=0, device=CPU)
    expected = np.zeros((16, 16), np.int64)
    head.eval()
    with torch.no_grad():
        for number in range(task.batches):
            votes = [task.scored[2 * number + vote] for vote in range(2)]
            assert torch.equal(votes[0].labels, votes[1].labels)
            assert not torch.equal(votes[0].clouds.features[:20], votes[1].clouds.features[:20])
            together = sum(head(task.features(vote, 0)).softmax(dim=1)[vote.nearest] for vote in votes)
            labels, found = votes[0].labels, together.argmax(dim=1)
            for label, guess in zip(labels[labels != IGNORE], found[labels != IGNORE], strict=True):
                expected[label, guess] += 1
    np.testing.assert_array_equal(confusion.counts, expected)
    alone = replace(task, votes=1, scored=task.scored._plain)
    assert not np.array_equal(score(alone, head, 16, workers=0, device=CPU)[0].counts, expected)


def test_another_field_of_view_needs_no_other_weights(plan: Plan, tmp_path: Path) -> None:
    wide = [[-128.0, 128.0], [-128.0, 128.0], [-8.0, 8.0]]
    other, run = changed(plan, tmp_path, field_of_view=wide)
    backbone = student_features(other.experiment, run, CPU).backbone
    own = run_of(plan, "finetuned").evaluate[0].full
    assert run.evaluate[0].full != own, "it is scored on full scans of its own"
    assert backbone.plane_shapes == ((64, 64), (64, 4), (64, 4))
    with pytest.raises(
        BadInput, match=r"finetunes.all.field_of_view of x is -127.0 to 128.0 m.*no whole number of cells"
    ):
        changed(plan, tmp_path, field_of_view=[[-127.0, 128.0], *wide[1:]])


def test_ids_hold_what_matters(plan: Plan, tmp_path: Path) -> None:
    before = run_of(plan, "finetuned").id
    assert changed(plan, tmp_path, starts=["pretrained"])[1].id == before
    for change in ({"layer_decay": 0.9}, {"every": 2}, {"epochs": 4}, {"augment": {"rule": "released"}}):
        assert changed(plan, tmp_path, **change)[1].id != before
    longer = plan.experiment.config.model_dump(mode="json")
    longer["students"]["s"]["pretrain"]["epochs"] = 3
    other = plan_experiment(Config.model_validate(deepcopy(longer)), plan.experiment.workdir)
    assert run_of(other, "finetuned").id != before
    assert run_of(other, "nothing").id == run_of(plan, "nothing").id, "it belongs to no pretraining"


@pytest.mark.whole
def test_the_command_and_the_rows_of_the_table(config_path: Path, plan: Plan, capsys: Any) -> None:
    main(["probe", "--config", str(config_path)])
    main(["finetune", "--config", str(config_path)])
    capsys.readouterr()
    main(["finetune", "--config", str(config_path)])
    said = capsys.readouterr().err
    assert said.count("complete already") == 3
    report = gather(results_of(plan.experiment))
    text = terminal(report)
    assert max(map(len, text.splitlines())) <= 120
    table = report.tables[-1]
    assert [(row.kind, row.name) for row in table.rows] == [
        ("nothing", "all"), ("distilled", "p"), ("finetuned", "all"), ("finetuned", "half"),
    ]  # fmt: skip
    for words in ("(1) no pretraining: all", "(2) probe p", "(3) finetuned: all", "gap to no pretraining"):
        assert words in text
    assert table.rows[2].gap is not None
    assert table.rows[3].gap is None
    assert len(gather(results_of(plan.experiment), finetunings=False).tables) == 1
    main(["report", "--config", str(config_path)])
    assert "(4) finetuned: half" in capsys.readouterr().out
    run = run_of(plan, "finetuned")
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "--config", str(config_path), "--run", Path(run.run.folder).name])
    assert ended.value.code == 2

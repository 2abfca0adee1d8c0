"""Trainings that are done are shown after the dataset has grown or shrunk: a workdir from before, whose index is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_schemas.canonical import digest, sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.config.model import Config
from pipeline.plan.experiment import Experiment, open_experiment
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.plan import Plan
from pipeline.plan.recorded_runs import RecordedRuns
from pipeline.plan.results import Results, results_of
from pipeline.plan.since_training import dataset_since
from pipeline.report.gather import gather
from pipeline.report.page import write_report
from pipeline.report.text import markdown, terminal

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "_run"
Entries = list[dict[str, Any]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "work")
    return tmp_path / "work"


def experiment_of(work: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Experiment:
    config = yaml.safe_load((work / "config.yaml").read_text())
    if change is not None:
        change(config)
    return open_experiment(Config.model_validate(config), work)


def change_index(work: Path, change: Callable[[Entries], Entries]) -> None:
    path = work / "index" / "nuscenes" / "index.json"
    body = json.loads(path.read_text())
    body.pop("digest", None)
    write_json(path, sealed({**body, "partitions": change(body["partitions"])}))


def grown(entries: Entries) -> Entries:
    return [*entries, {**entries[0], "name": "scene-9999"}]


def shrunk(entries: Entries) -> Entries:
    return [entry for entry in entries if entry["name"] != "scene-0655"]


def replaced(entries: Entries) -> Entries:
    other = dict.fromkeys(entries[0]["members"], "0123456789")
    return [{**e, "members": other} if e["name"] == "scene-0655" else e for e in entries]


def without_val(entries: Entries) -> Entries:
    return [entry for entry in entries if entry["split"] != "val"]


def with_a_broken_one(entries: Entries) -> Entries:
    return [{**e, "problem": "it was cut"} if e["name"] == "scene-0655" else e for e in entries]


def as_in_a_plan(run: LabelledRun) -> list[Any]:
    scanned = [(r.dataset, r.split, r.partition, r.labels, r.full, r.views, r.features) for r in run.train]
    scored = [(r.dataset, r.split, r.partition, r.labels, r.full, r.views, r.features) for r in run.evaluate]
    return [
        type(run),
        run.kind,
        run.name,
        run.block,
        run.run.name,
        run.seed,
        run.id,
        run.left_out,
        scanned,
        scored,
    ]


def test_each_training_is_given_as_the_plan_gives_it(work: Path) -> None:
    experiment = experiment_of(work)
    plan, recorded = Plan(experiment), RecordedRuns(experiment)
    assert {(run.id, run.folder, run.readings) for run in recorded.pretrainings} == {
        (run.id, run.folder, run.readings) for run in plan.runs.values()
    }
    planned = {**plan.probe_runs, **plan.finetune_runs}
    assert len(planned) == 8
    for folder, run in planned.items():
        again = recorded.in_folder(folder)
        assert again is not None, folder
        assert as_in_a_plan(again) == as_in_a_plan(run)
        assert again.kind == "teacher" or (again.train, again.evaluate) == (run.train, run.evaluate)
    calibrated = next(run for run in recorded.probes if run.kind == "calibrated")
    assert [r.views for r in calibrated.run.readings] == [r.views for r in plan.runs["wi_tiny"].readings]


def test_no_counts_where_there_are_as_many(work: Path) -> None:
    run = next(iter(Plan(experiment_of(work)).runs.values()))
    change_index(work, replaced)
    lines = dataset_since(experiment_of(work), run)
    assert lines == ["nuscenes train: 1 partition with other files: scene-0655"]


def without_a_scene(config: dict[str, Any]) -> None:
    config["datasets"]["nuscenes"]["leave_out"] = ["scene-0655"]


def test_what_the_config_leaves_out_is_no_change_of_the_dataset(work: Path) -> None:
    experiment = experiment_of(work)
    run = next(iter(Plan(experiment).runs.values()))
    assert dataset_since(experiment, run) == []
    assert dataset_since(experiment_of(work, without_a_scene), run) == [
        "nuscenes train: 1 partition left out by this config: scene-0655 (3 partitions then, 2 today)"
    ]
    report = terminal(gather(results_of(experiment_of(work, without_a_scene))))
    assert "dataset changed" not in report


def rows_of(results: Results) -> list[Any]:
    report = gather(results)
    return [(t.probe, r.kind, r.seeds, r.miou, r.iou, r.gap) for t in report.tables for r in t.rows]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (grown, "nuscenes train: 1 partition more today: scene-9999 (3 partitions then, 4 today)"),
        (
            shrunk,
            "nuscenes train: 1 partition no longer there: scene-0655 (3 partitions then, 2 today)",
        ),
        (replaced, "nuscenes train: 1 partition with other files: scene-0655"),
        (
            with_a_broken_one,
            "nuscenes train: 1 partition that cannot be used today: scene-0655 (3 partitions then, 2 today)",
        ),
        (without_val, "nuscenes val: 1 partition no longer there: scene-0103 (1 partition then, 0 today)"),
    ],
)
def test_what_is_done_is_shown_and_what_the_dataset_has_since(
    work: Path, change: Callable[[Entries], Entries], line: str, tmp_path: Path
) -> None:
    before = results_of(experiment_of(work))
    assert not before.since
    rows = rows_of(before)
    assert all(row[2] for row in rows)
    change_index(work, change)
    experiment = experiment_of(work)
    results = results_of(experiment)
    assert bool(results.problem) == (change in (without_val, with_a_broken_one))
    assert rows_of(results) == rows, "all of it, with the gaps"
    report = gather(results)
    text = " ".join(terminal(report).split())
    assert line in text
    assert line in " ".join(markdown(report).split())
    assert "not done yet" not in text
    assert "no run is done" not in text
    folder = write_report(tmp_path, report)
    assert line in " ".join((folder / "index.html").read_text().split())
    if results.problem:
        assert results.problem.split("\n")[0] in text


def of_another_dataset(config: dict[str, Any]) -> None:
    """Two students, one of each of two datasets, that exchange them."""
    config["datasets"]["other"] = dict(config["datasets"]["nuscenes"])
    config["students"]["another"] = config["students"]["wi_tiny"] | {"datasets": ["nuscenes"], "probes": []}
    config["students"]["wi_tiny"]["datasets"] = ["other"]


def test_a_training_is_never_shown_as_one_of_another_dataset(work: Path) -> None:
    shutil.copytree(work / "index" / "nuscenes", work / "index" / "other")
    body = json.loads((work / "index" / "other" / "index.json").read_text())
    body.pop("digest", None)
    write_json(work / "index" / "other" / "index.json", sealed({**body, "dataset": "other"}))
    recorded = RecordedRuns(experiment_of(work, of_another_dataset))
    assert [run.name for run in recorded.pretrainings if run.name == "wi_tiny"] == []
    assert [run.folder for run in (*recorded.probes, *recorded.finetunes) if run.run.name == "wi_tiny"] == []


def test_no_mean_over_scores_on_other_partitions(work: Path) -> None:
    results = results_of(experiment_of(work))
    distilled, *others = results.probe_rows
    (run,) = distilled.runs
    elsewhere = replace(
        run,
        run=replace(run.run, seed=1),
        evaluate=(*run.evaluate, replace(run.evaluate[0], partition="scene-0001")),
    )
    rows = [replace(distilled, runs=(run, elsewhere)), *others]
    first = gather(replace(results, probe_rows=rows)).tables[0].rows[0]
    assert (first.seeds, len(first.apart)) == ((run.seed,), 1)
    text = " ".join(terminal(gather(replace(results, probe_rows=rows))).split())
    assert (
        "in no mean, for it was scored on other partitions than the other seeds: distilled student: runs/"
        in text
    )


def test_no_gap_between_scores_on_other_partitions(work: Path) -> None:
    change_index(work, grown)
    results = results_of(experiment_of(work))
    distilled, *others = results.probe_rows
    (run,) = distilled.runs
    elsewhere = replace(run, evaluate=(*run.evaluate, replace(run.evaluate[0], partition="scene-0001")))
    rows = [replace(distilled, runs=(elsewhere,)), *others]
    for probe_rows, compared in ((results.probe_rows, True), (rows, False)):
        report = gather(replace(results, probe_rows=probe_rows))
        first = report.tables[0].rows[0]
        assert first.kind == "distilled"
        assert first.miou is not None
        assert (first.gap is not None) == compared


def test_a_training_on_todays_dataset_takes_the_place_of_the_one_before(work: Path) -> None:
    experiment = experiment_of(work)
    old = next(iter(Plan(experiment).runs.values()))
    change_index(work, grown)
    experiment = experiment_of(work)
    new = next(iter(Plan(experiment).runs.values()))
    assert results_of(experiment).runs["wi_tiny"].folder == old.folder
    shutil.copytree(experiment.run_path(old), experiment.run_path(new))
    results = results_of(experiment)
    assert results.runs["wi_tiny"].folder == new.folder
    assert new.folder not in results.since
    distilled = next(row for row in results.probe_rows if row.kind == "distilled").runs[0]
    assert distilled.folder.startswith(old.folder), "its probe is not done yet"


def test_of_two_of_before_the_last_one_is_shown(work: Path) -> None:
    experiment = experiment_of(work)
    folder = experiment.run_path(next(iter(Plan(experiment).runs.values())))
    provenance = json.loads((folder / "provenance.json").read_text())
    for seconds, partitions in (("59", 1), ("01", 2)):
        identity = {**provenance["identity"], "reads": provenance["identity"]["reads"][:partitions]}
        other = folder.with_name(f"wi_tiny-{digest(identity)}")
        made = {**provenance["made"], "time": f"2099-01-01T00:00:{seconds}Z"}
        write_json(other / "provenance.json", {**provenance, "identity": identity, "made": made})
        write_json(other / "done.json", {})
    runs = RecordedRuns(experiment).pretrainings
    assert [len(run.readings) for run in runs] == [3, 2, 1]


def with_identity(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], time: str) -> Path:
    """The same training as a copy with another identity, in the folder that it makes."""
    provenance = json.loads((folder / "provenance.json").read_text())
    identity = change(provenance["identity"])
    other = folder.with_name(f"{folder.name.rpartition('-')[0]}-{digest(identity)}")
    shutil.copytree(folder, other)
    made = {**provenance["made"], "time": time}
    write_json(other / "provenance.json", {**provenance, "identity": identity, "made": made})
    return other


def of_bad_files(identity: dict[str, Any]) -> dict[str, Any]:
    reads = [
        [*row[:3], *([folder, "0000000000"] for folder, _ in row[3:5]), *row[5:]] for row in identity["reads"]
    ]
    return {**identity, "reads": reads}


def test_of_those_of_before_the_nearest_to_today_is_shown(work: Path) -> None:
    experiment = experiment_of(work)
    plan = Plan(experiment)
    good = next(iter(plan.runs.values()))
    bad = with_identity(experiment.run_path(good), of_bad_files, "2099-01-01T00:00:00Z")
    random_probe = next(run for run in plan.probe_runs.values() if run.kind == "random")
    bad_probe = with_identity(experiment.run_path(random_probe), of_bad_files, "2099-01-01T00:00:00Z")
    change_index(work, grown)
    experiment = experiment_of(work)
    recorded = RecordedRuns(experiment)
    assert [Path(run.folder).name for run in recorded.pretrainings][-1] == bad.name, "the last one"
    assert bad_probe.name in [Path(run.folder).name for run in recorded.probes if run.kind == "random"]
    results = results_of(experiment)
    assert results.runs["wi_tiny"].folder == good.folder
    shown = {run.kind: run.folder for run in results.probe_runs.values()}
    assert shown["random"] == random_probe.folder
    assert shown["distilled"].startswith(good.folder)


def other_rate(config: dict[str, Any]) -> None:
    config["students"]["wi_tiny"]["pretrain"]["lr"] = 0.5


def other_mask(config: dict[str, Any]) -> None:
    """It changes no key of the student, but the stores that are read."""
    config["datasets"]["nuscenes"]["mask"] = "strict"


@pytest.mark.parametrize("change", [other_rate, other_mask])
def test_trainings_of_another_config_are_not_taken_for_its_own(
    work: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    recorded = RecordedRuns(experiment_of(work, change))
    assert recorded.pretrainings == []
    assert not [
        run
        for run in recorded.probes
        if run.kind in ("distilled", *(["teacher", "calibrated"] if change is other_mask else []))
    ]


def test_where_nothing_was_done_the_reason_is_said(work: Path) -> None:
    shutil.rmtree(work / "runs")
    change_index(work, without_val)
    with pytest.raises(BadInput, match="no partition in split val"):
        results_of(experiment_of(work))


def test_a_damaged_record_is_passed_over_and_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = (work / "runs").glob("wi_tiny-*")
    (folder / "provenance.json").write_text("{")
    recorded = RecordedRuns(experiment_of(work))
    assert recorded.pretrainings == []
    assert f"{folder} is passed over: provenance.json cannot be used" in capsys.readouterr().err

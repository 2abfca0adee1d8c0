"""The table from metrics that are written by hand."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_index import DATASET, entry, write_index

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.publish import write_json
from pipeline.config.model import Config
from pipeline.datasets.nuscenes.classes import CLASSES
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.results import results_of
from pipeline.report.gather import before_report, gather, report_marker
from pipeline.report.page import write_report
from pipeline.report.text import plain, terminal

MIOU = {"distilled": 0.57, "calibrated": 0.43, "random": 0.36, "inputs": 0.25, "teacher": 0.26}


def plan_of(workdir: Path, seeds: list[int], weights: str = "untrained") -> Plan:
    write_index(workdir, "toy", [entry("scene-0001"), entry("scene-0002", "val")])
    config = {
        "description": "for a test",
        "datasets": {"toy": DATASET},
        "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": weights}},
        "students": {"s": {"datasets": ["toy"], "teacher": "t", "seeds": seeds, "probes": ["p"]}},
        "probes": {"p": {"baselines": ["random", "calibrated", "inputs", "teacher"]}},
    }
    return plan_experiment(Config.model_validate(config), workdir)


def train(plan: Plan) -> None:
    """As if every run were done; half of the classes do not occur, and each seed adds two points of mIoU."""
    for run in plan.runs.values():
        folder = plan.experiment.run_path(run)
        write_json(folder / "done.json", {})
        lines = ["step,epoch,loss,lr,points,seconds,samples_per_second,data_wait_share"]
        lines += [f"{step},0,{1 / step},0.1,100,{step / 10},8,0.1" for step in range(1, 101)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    for run in plan.probe_runs.values():
        score(plan, run, MIOU[run.kind] + 0.02 * run.seed)


def score(plan: Plan, run: Any, miou: float) -> None:
    iou = {name: miou if number % 2 else None for number, name in enumerate(CLASSES)}
    folder = plan.experiment.run_path(run)
    write_json(folder / "metrics.json", {"probe_id": run.id, "miou": miou, "iou": iou, "points": 1234})
    write_json(folder / "done.json", {})


def test_the_table_of_one_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    train(plan)
    text = terminal(gather(results_of(plan.experiment)))
    assert max(map(len, text.splitlines())) <= 120
    assert "teacher: vit_tiny_patch16_224, stand-in teacher (untrained)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["distilled", "student", "57.0", "+14.0", "0"] in lines
    assert "random student, frozen, batch norms calibrated  43.0                  –" in text
    assert ["car", "57.0", "43.0", "36.0", "25.0", "26.0"] in lines
    assert ["barrier", "–", "–", "–", "–", "–"] in lines
    assert "points that cameras see" in text
    assert "loss 1.000 → 0.010 in 100 steps" in text
    assert " to " not in text.split("IoU %")[0], "one seed has no spread"


def test_both_means_and_on_how_much_they_stand(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    train(plan)
    text = " ".join(terminal(gather(results_of(plan.experiment))).split())
    assert "mIoU over all 16 classes, those that do not occur as 0 (as semantic-kitti-api counts)" in text
    assert "distilled not recorded, calibrated not recorded" in text, "metrics of before"
    assert "on how much of toy val older rows were scored: not recorded" in text
    path = plan.experiment.run_path(plan.probe_rows[0].runs[0]) / "metrics.json"
    lacking = [{"name": "scene-0003", "scans": 40, "why": "without any file"}]
    share = {"dataset": "toy", "split": "val", "partitions": [1, 2], "scans": [40, 80], "lacking": lacking}
    metrics = json.loads(path.read_text()) | {"miou_all_classes": 0.285, "shares": [share]}
    write_json(path, metrics)
    report = gather(results_of(plan.experiment))
    text = " ".join(terminal(report).split())
    assert "distilled 28.5, calibrated not recorded" in text
    assert (
        "scored on toy val: 1 of 2 partitions, 40 of 80 scans; 1 partition without any file: scene-0003"
        in text
    )
    folder = write_report(tmp_path, report)
    assert all("40 of 80 scans" in (folder / name).read_text() for name in ("results.md", "index.html"))
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert (rows[0]["miou_all_classes"], rows[1]["miou_all_classes"]) == ("28.499999999999996", "")


def test_several_seeds_are_a_mean_and_how_far_they_go(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0, 1, 2])
    train(plan)
    last = plan.probe_rows[0].runs[2]
    score(plan, last, 0.70)
    text = terminal(gather(results_of(plan.experiment)))
    row = next(line for line in text.splitlines() if line.startswith("distilled student"))
    # The gap is of each seed to the calibrated student of the same seed: 14, 14 and 70 - 47.
    assert "62.0 (57.0 to 70.0)" in row
    assert "+17.0 (+14.0 to +23.0)" in row
    assert row.endswith("0, 1, 2")
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_not_done_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0, 1])
    train(plan)
    complete = gather(results_of(plan.experiment)).id
    gone = plan.probe_rows[0].runs[1]
    (plan.experiment.workdir / gone.folder / "done.json").unlink()
    report = gather(results_of(plan.experiment))
    assert report.id != complete
    text = terminal(report)
    assert f"not done yet: distilled student: {gone.folder}" in " ".join(text.split())
    assert any(line.startswith("distilled student") and "57.0 " in line for line in text.splitlines())


def test_the_time_of_a_run_that_was_interrupted_is_the_sum(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    train(plan)
    path = plan.experiment.run_path(plan.runs["s"]) / "metrics.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *lines[:60], *lines[:40]]) + "\n")
    assert gather(results_of(plan.experiment)).trainings[0].seconds == pytest.approx(6.0 + 4.0)


def test_warnings_about_values_are_a_line_for_each_dataset_and_kind(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    train(plan)
    assert gather(results_of(plan.experiment)).warnings == ()
    for number, lot in enumerate(plan.lots("scans")):
        entry = {
            "kind": "origin",
            "what": f"3 of 40 lidar files, the first {number}.bin",
            "why": "zeros",
            "count": 3,
        }
        body = {
            "griddle": "griddle lot",
            "partitions": [{"name": part.name, "warnings": [entry]} for part in lot.entries],
        }
        write_json(plan.experiment.lot_path(lot), {**body, "digest": digest(body)})
    report = gather(results_of(plan.experiment))
    assert report.warnings == (
        "toy: origin: 6 file(s) of 2 partition(s); scene-0001: 3 of 40 lidar files, the first 0.bin: zeros. "
        "If that is right: allow: [origin]",
    )
    assert max(map(len, terminal(report).splitlines())) <= 120
    assert "warning: toy: origin: 6 file(s) of 2 partition(s)" in terminal(report)
    assert plain(report)["warnings"] == report.warnings
    folder = write_report(tmp_path, report)
    for name in ("results.md", "index.html"):
        assert report.warnings[0] in (folder / name).read_text()


def test_nothing_done_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no run is done"):
        gather(results_of(plan_of(tmp_path, [0]).experiment))


def test_metrics_of_another_probe_are_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0])
    train(plan)
    run = next(iter(plan.probe_runs.values()))
    path = plan.experiment.run_path(run) / "metrics.json"
    write_json(path, json.loads(path.read_text()) | {"probe_id": "other"})
    with pytest.raises(GriddleError, match=r"metrics.json belongs to other"):
        gather(results_of(plan.experiment))


def test_real_weights_are_no_stand_in(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0], weights="hub")
    train(plan)
    assert "stand-in" not in terminal(gather(results_of(plan.experiment)))


class Links(HTMLParser):
    """Every address that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_files_hold_the_same_numbers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0, 1])
    train(plan)
    report = gather(results_of(plan.experiment))
    folder = write_report(tmp_path, report)
    assert folder / "done.json" == Path(report_marker(plan)), "what Snakemake waits for"
    assert before_report(plan) == [*plan.run_markers(), *plan.probe_markers()], (
        "written again, it waits for them, too"
    )
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert [row["kind"] for row in rows] == ["distilled", "calibrated", "random", "inputs", "teacher"]
    assert float(rows[0]["miou"]) == pytest.approx(58.0)
    assert float(rows[0]["gap_min"]) == pytest.approx(14.0)
    assert rows[0]["iou_barrier"] == ""
    assert float(rows[3]["iou_car_max"]) == pytest.approx(27.0)
    assert "58.0 (57.0 to 59.0)" in (folder / "results.md").read_text()
    page = (folder / "index.html").read_text()
    assert "<svg" in page
    links = Links()
    links.feed(page)
    assert links.found == [], "the page needs nothing beside it"
    assert f'href="{report.id}/index.html"' in (tmp_path / "report/index.html").read_text()
    value = json.loads(json.dumps(plain(report)))
    assert value["tables"][0]["rows"][0]["miou"]["mean"] == pytest.approx(58.0)

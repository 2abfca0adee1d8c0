"""Probes and baselines in a plan: what changes their ids, which lots they need, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.config.model import Config
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.probes import BASELINES

CUE = {"root": str(Path("nowhere").resolve()), "version": "v1.0-trainval", "reader": ["nuscenes", 1]}
CONFIG: dict[str, Any] = {
    "datasets": {"nuscenes": {"reader": "nuscenes", "root": "nowhere", "version": "v1.0-trainval"}},
    "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": "untrained"}},
    "students": {"s": {"datasets": ["nuscenes"], "teacher": "t", "probes": ["p"]}},
    "probes": {"p": {"baselines": list(BASELINES)}},
}
Change = Callable[[dict[str, Any]], None]


def entry(name: str, split: str, labels: bool = True) -> dict[str, Any]:
    members = {stage: f"m-{name}-{stage}" for stage in STAGES}
    if not labels:
        members["labels"] = None  # type: ignore[assignment]
    return {"name": name, "split": split, "scans": 40, "images": 240, "points": 50, "members": members,
            "file": f"{name}.json", "problem": None}  # fmt: skip


ENTRIES = [entry("scene-0001", "train"), entry("scene-0002", "train"), entry("scene-0003", "val")]


def plan_of(workdir: Path, change: Change = lambda config: None, entries: Any = None) -> Plan:
    index = {
        "griddle": "griddle index",
        "format": 3,
        "dataset": "nuscenes",
        "cue": CUE,
        "absent": [],
        "left_out": [],
    }
    write_json(workdir / "index" / "nuscenes" / "index.json", {**index, "partitions": entries or ENTRIES})
    config = deepcopy(CONFIG)
    change(config)
    return plan_experiment(Config.model_validate(config), workdir)


def ids(plan: Plan) -> dict[str, str]:
    return {row.kind: row.runs[0].id for row in plan.probe_rows}


def set_in(*path: Any) -> Change:
    """Sets config[a][b]... to the last of `path`."""

    def change(config: dict[str, Any]) -> None:
        block = config
        for key in path[:-2]:
            block = block.setdefault(key, {})
        block[path[-2]] = path[-1]

    return change


ALL = {"distilled", *BASELINES}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (set_in("probes", "p", "baselines", ["teacher"]), set()),
        (set_in("students", "s", "description", "other words"), set()),
        (set_in("workers", 7), set()),
        (set_in("probes", "p", "lr", 2e-3), ALL),
        (set_in("probes", "p", "datasets", ["nuscenes"]), set()),
        (set_in("probes", "p", "splits", ["val"]), ALL),
        (set_in("probes", "p", "augment", {"scale": 0.0}), ALL - {"teacher"}),
        (set_in("probes", "p", "calibration_batches", 5), {"calibrated"}),
        (set_in("probes", "p", "scratch_lr", 5e-3), {"scratch"}),
        (set_in("students", "s", "pretrain", {"epochs": 3}), {"distilled"}),
        (set_in("students", "s", "pretrain", {"batch": 3}), {"distilled", "calibrated"}),
        (set_in("students", "s", "seeds", [5]), ALL),
        (set_in("students", "s", "network", {"width": 8}), ALL - {"inputs", "teacher"}),
        (set_in("students", "s", "points", {"variants": 3}), {"distilled", "calibrated", "teacher"}),
        (set_in("students", "s", "points", {"neighbours": 3}), ALL),
        (set_in("students", "s", "sampling", "subpixel"), {"distilled", "teacher"}),
        (set_in("teachers", "t", "seed", 1), {"distilled", "teacher"}),
    ],
)
def test_an_id_changes_with_what_matters_to_it(tmp_path: Path, change: Change, kinds: set[str]) -> None:
    before, after = ids(plan_of(tmp_path)), ids(plan_of(tmp_path, change))
    assert {kind for kind in after if after[kind] != before[kind]} == kinds


def test_ids_are_what_they_were(tmp_path: Path) -> None:
    """A change here trains every probe anew: raise PROBE_ALGORITHM with intent, never by accident."""
    plan = plan_of(tmp_path)
    assert ids(plan) == ids(plan_of(tmp_path))
    assert {row.kind: sorted(row.runs[0].identity) for row in plan.probe_rows}["random"] == [
        "algorithm", "intensity", "kind", "network", "points", "probe", "reads", "seed",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", ["scans", "labels"])
def test_other_labels_or_scans_are_another_probe(tmp_path: Path, stage: str) -> None:
    entries = deepcopy(ENTRIES)
    entries[2]["members"][stage] = "other"
    before, after = ids(plan_of(tmp_path)), ids(plan_of(tmp_path, entries=entries))
    changed = {kind for kind in after if after[kind] != before[kind]}
    assert changed == (ALL if stage == "labels" else ALL - {"teacher"})


def test_a_probe_is_no_part_of_the_pretraining(tmp_path: Path) -> None:
    with_probe = plan_of(tmp_path)
    without = plan_of(tmp_path, set_in("students", "s", "probes", []))
    assert with_probe.runs["s"].id == without.runs["s"].id
    assert not without.probe_rows


def test_label_lots_appear_only_where_probes_are_configured(tmp_path: Path) -> None:
    without = plan_of(tmp_path, set_in("students", "s", "probes", []))
    assert not without.lots("labels")
    assert {lot.split for lot in without.lots("scans")} == {"train"}
    plan = plan_of(tmp_path)
    assert {lot.split for lot in plan.lots("labels")} == {"train", "val"}
    assert {lot.split for lot in plan.lots("scans")} == {"train", "val"}
    assert {lot.digest for lot in without.lots("scans")} < {lot.digest for lot in plan.lots("scans")}
    for lot in plan.lots("labels"):
        assert lot.store.folder.startswith(f"{lot.store.scans.folder}/labels/nuscenes-")
        assert plan.before("labels", lot.digest)


def test_views_and_features_of_the_evaluated_split_are_for_the_teacher_alone(tmp_path: Path) -> None:
    splits = {}
    for baselines in (["random"], ["teacher"]):
        plan = plan_of(tmp_path, set_in("probes", "p", "baselines", baselines))
        splits[baselines[0]] = {lot.split for stage in ("views", "features") for lot in plan.lots(stage)}
    assert splits == {"random": {"train"}, "teacher": {"train", "val"}}


def test_a_calibrated_student_waits_for_views_and_for_no_feature(tmp_path: Path) -> None:
    rows = {row.kind: row.runs[0] for row in plan_of(tmp_path).probe_rows}
    assert {lot.store.stage for lot in rows["calibrated"].lots} == {"scans", "labels", "views", "full_scans"}
    assert {lot.store.stage for lot in rows["random"].lots} == {"scans", "labels", "full_scans"}


def test_two_seeds_are_two_runs_with_a_probe_each(tmp_path: Path) -> None:
    one, two = plan_of(tmp_path), plan_of(tmp_path, set_in("students", "s", "seeds", [0, 1]))
    assert len({run.folder for run in two.runs.values()}) == 2
    assert one.runs["s"].id in {run.id for run in two.runs.values()}, "one more seed changes no other run"
    assert all(len(row.runs) == 2 for row in two.probe_rows)
    assert {run.identity["student"]["seed"] for run in two.runs.values()} == {0, 1}
    assert len(two.probe_markers()) == 2 * (1 + len(BASELINES))
    assert set(one.probe_runs) < set(two.probe_runs)


def test_students_that_differ_in_their_teacher_share_baselines(tmp_path: Path) -> None:
    def another(config: dict[str, Any]) -> None:
        config["teachers"]["u"] = {**config["teachers"]["t"], "seed": 1}
        config["students"]["r"] = {**config["students"]["s"], "teacher": "u"}

    plan = plan_of(tmp_path, another)
    kinds = sorted(run.kind for run in plan.probe_runs.values())
    shared = {"calibrated", "inputs", "random", "scratch"}
    assert kinds == sorted([*shared, "distilled", "distilled", "teacher", "teacher"])
    assert plan.probe_run(f"runs/baselines/random-{ids(plan)['random']}").kind == "random"


def test_a_partition_without_labels_is_left_out_and_named(tmp_path: Path) -> None:
    entries = [*ENTRIES, entry("scene-0004", "train", labels=False)]
    plan = plan_of(tmp_path, entries=entries)
    run = plan.probe_rows[0].runs[0]
    assert run.left_out == ("nuscenes train scene-0004",)
    assert [reading.partition for reading in run.train] == ["scene-0001", "scene-0002"]
    assert "scene-0004" not in {e.name for lot in plan.lots("labels") for e, _ in lot.members}
    assert "scene-0004" in {reading.partition for reading in plan.runs["s"].readings}


@pytest.mark.parametrize(("without", "split"), [("val", "val"), ("train", "train")])
def test_a_split_without_any_label_is_refused(tmp_path: Path, without: str, split: str) -> None:
    entries = [entry(e["name"], e["split"], labels=e["split"] != without) for e in ENTRIES]
    with pytest.raises(BadInput, match=rf"dataset nuscenes has no labels in its {split} split") as refused:
        plan_of(tmp_path, entries=entries)
    assert "students.s.probes" in str(refused.value)


def test_a_split_without_partitions_names_the_probe(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"probes.p.evaluate: dataset nuscenes .* no partition in split test"):
        plan_of(tmp_path, set_in("probes", "p", "evaluate", "test"))


def test_a_batch_that_no_split_fills_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"probes.p.batch is 81, but the train split has only 80 scan"):
        plan_of(tmp_path, set_in("probes", "p", "batch", 81))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("students", "s", "probes", ["q"]), "the probes here are"),
        (set_in("students", "s", "probes", ["p", "p"]), "twice"),
        (set_in("students", "s", "seeds", []), "at least 1"),
        (set_in("students", "s", "seeds", [1, 1]), "twice"),
        (set_in("probes", "p", "datasets", ["kitti"]), "probes.p.datasets names 'kitti'"),
        (set_in("probes", "p", "baselines", ["best"]), "calibrated"),
    ],
)
def test_what_a_config_cannot_say(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(tmp_path, change)


def test_a_probe_waits_for_its_student_and_for_nothing_once_it_is_done(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    run = plan.probe_rows[0].runs[0]
    assert str(plan.experiment.run_path(run.run) / "done.json") in plan.before_labelled(run.folder)
    assert str(plan.experiment.run_path(run) / "done.json") not in plan.probe_markers(startable=True)
    write_json(plan.experiment.run_path(run) / "done.json", {})
    assert plan.before_labelled(run.folder) == []
    with pytest.raises(BadInput, match="the plan has no runs/baselines/random-0"):
        plan.before_labelled("runs/baselines/random-0")

"""Real Snakemake runs on a toy tree: what runs, what does not, and that nothing old is touched."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import rules_run

TRAIN = ["scene-0061", "scene-0655"]


def manifests(work: Path, stage: str) -> dict[str, tuple[str, int]]:
    """Content digest and mtime of every partition manifest of a store."""
    found = {}
    for path in (work / "cache" / stage).rglob("*.json"):
        if ".zarr" not in str(path):
            found[path.name] = (json.loads(path.read_bytes())["content_digest"], path.stat().st_mtime_ns)
    return found


def use_partitions(names: list[str]):
    def change(config: dict[str, Any]) -> None:
        config["datasets"]["nuscenes"]["partitions"] = names

    return change


def test_the_first_call_ran_each_stage_once(finished: Any) -> None:
    logs = {path.parent.name: path for path in (finished.work / "logs").glob("*/*.log")}
    assert sorted(logs) == ["features", "pretrain", "scans", "views"]
    assert len(list((finished.work / "logs").glob("*/*.log"))) == 4


def test_called_again_there_is_nothing_to_do(finished: Any) -> None:
    started = time.monotonic()
    done = finished.snakemake("pretrain_all")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert time.monotonic() - started < 15


def test_nothing_to_do_without_snakemakes_memory(finished: Any) -> None:
    shutil.rmtree(finished.folder / ".snakemake")
    done = finished.snakemake("pretrain_all")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_nothing_to_do_in_a_copy_with_new_file_times(finished_master: Any, tmp_path: Path) -> None:
    shutil.copytree(finished_master.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "copy" / ".snakemake")
    done = type(finished_master)(tmp_path / "copy").snakemake("pretrain_all")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert not rules_run(done)


@pytest.mark.whole
def test_one_more_scene_computes_its_partition_and_what_reads_it(finished: Any) -> None:
    old = {stage: manifests(finished.work, stage) for stage in ("scans", "views", "features")}
    old_runs = set((finished.work / "runs").iterdir())
    finished.edit(use_partitions(TRAIN))
    done = finished.snakemake("pretrain_all")
    assert rules_run(done) == {"scans": 1, "views": 1, "features": 1, "pretrain": 1}
    for stage, before in old.items():
        after = manifests(finished.work, stage)
        assert {name: after[name] for name in before} == before, f"{stage}: an old partition was touched"
        new = set(after) - set(before)
        assert [name.split(".")[0] for name in new] == [TRAIN[1]]
    assert len(set((finished.work / "runs").iterdir()) - old_runs) == 1
    # Taking the scene out again finds the old run.
    finished.edit(use_partitions(TRAIN[:1]))
    assert "Nothing to be done" in finished.snakemake("pretrain_all").stderr


@pytest.mark.parametrize(
    "gone", ["manifest", *(pytest.param(name, marks=pytest.mark.whole) for name in ("store", "sidecar"))]
)
def test_partitions_deleted_by_hand_are_computed_again_and_nothing_else(finished: Any, gone: str) -> None:
    before = manifests(finished.work, "views")
    weights = next((finished.work / "runs").glob("*/weights.safetensors"))
    trained = weights.stat().st_mtime_ns
    folder = next((finished.work / "cache" / "views").iterdir())
    if gone == "manifest":
        next(folder.glob("*.json")).unlink()
    elif gone == "sidecar":
        next(folder.glob("*.crc")).unlink()
    else:
        shutil.rmtree(next(folder.glob("*.zarr")))
    done = finished.snakemake("pretrain_all")
    assert rules_run(done) == {"views": 1}
    assert "lost partitions" in done.stderr
    after = manifests(finished.work, "views")
    assert {name: digest for name, (digest, _) in after.items()} == {
        name: digest for name, (digest, _) in before.items()
    }
    assert weights.stat().st_mtime_ns == trained


def test_a_lost_marker_is_rewritten_without_training(finished: Any) -> None:
    marker = next((finished.work / "runs").glob("*/done.json"))
    weights = marker.with_name("weights.safetensors")
    trained = weights.stat().st_mtime_ns
    marker.unlink()
    done = finished.snakemake("pretrain_all")
    assert rules_run(done) == {"pretrain": 1}
    assert "is complete already" in done.stdout + done.stderr
    assert marker.exists()
    assert weights.stat().st_mtime_ns == trained


@pytest.mark.whole
def test_another_student_recomputes_no_cache(finished: Any) -> None:
    def change(config: dict[str, Any]) -> None:
        config["students"]["wi_tiny"]["network"]["width"] = 12

    finished.edit(change)
    assert rules_run(finished.snakemake("pretrain_all")) == {"pretrain": 1}


@pytest.mark.whole
def test_another_teacher_recomputes_features_and_the_run(finished: Any) -> None:
    def change(config: dict[str, Any]) -> None:
        config["teachers"]["tiny"]["seed"] = 5

    finished.edit(change)
    assert rules_run(finished.snakemake("pretrain_all")) == {"features": 1, "pretrain": 1}


def test_a_choice_that_cannot_change_results_runs_nothing(finished: Any) -> None:
    def change(config: dict[str, Any]) -> None:
        config["description"] = "another text"
        config["workers"] = 1
        config["teachers"]["tiny"]["images_per_batch"] = 3

    finished.edit(change)
    assert "Nothing to be done" in finished.snakemake("pretrain_all").stderr


def test_bad_config_ends_snakemake_with_our_words_and_exit_code_2(finished: Any) -> None:
    finished.edit(lambda config: config["students"]["wi_tiny"].update(tacher="tiny"))
    done = finished.snakemake("pretrain_all", check=2)
    assert "students.wi_tiny.tacher: there is no such key; did you mean 'teacher'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_selects_a_student(finished: Any) -> None:
    done = finished.snakemake("pretrain_all", "--config", "only=nobody", check=2)
    assert "there is no such student; the config has wi_tiny" in done.stderr
    done = finished.snakemake("pretrain_all", "--config", "only=wi_tiny")
    assert "Nothing to be done" in done.stderr


def test_says_that_there_is_no_gpu(finished: Any) -> None:
    assert "no GPU found" in finished.snakemake("pretrain_all").stderr

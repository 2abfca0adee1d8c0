"""What `griddle plan` says before, beside what lies on the disk afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_schemas.publish import write_json
from pipeline.config.load import load_config
from pipeline.config.model import Config
from pipeline.datasets.index import make_index
from pipeline.plan.cost.estimate import estimate, pending
from pipeline.plan.cost.teacher_rate import recorded_rate
from pipeline.plan.parts import STAGES
from pipeline.plan.plan import plan_experiment
from stages.cli import griddle

REPOSITORY = Path(__file__).resolve().parents[4]
WITHIN = {"scans": 0.02, "labels": 0.02, "features": 0.02, "views": 0.15, "full_scans": 0.15}


def on_disk(cache: Path, store: dict[str, Any]) -> list[Path]:
    """The files of a store; a label store lies within the scan store's folder and is not of it."""
    folder = cache / store["folder"]
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if "labels" not in path.relative_to(folder).parts]


def compare(before: dict[str, Any], cache: Path) -> set[str]:
    """Check every store of an estimate; returns the stages."""
    for store in before["stores"]:
        files = on_disk(cache, store)
        assert store["files"] == len(files), store
        assert store["files"] <= 25 * store["to_compute"]
        written = sum(path.stat().st_size for path in files)
        assert store["bytes"] == pytest.approx(written, rel=WITHIN[store["stage"]]), store
    return {store["stage"] for store in before["stores"]}


def test_the_toy_town(finished_master: Any, tmp_path: Path) -> None:
    plan = finished_master.plan()
    shutil.copytree(finished_master.work / "index", tmp_path / "index")
    before = estimate(plan_experiment(plan.experiment.config, tmp_path))
    assert compare(before, finished_master.work / "cache") == {"scans", "views", "features"}
    assert [row["source"] for row in before["stores"] if row["stage"] == "views"] == [
        "measured on 2 scan(s), right to 15 %"
    ]
    after = estimate(plan)
    assert (after["files"], after["bytes"]) == (0, 0)
    assert [row["there"] for row in after["stores"]] == [1, 1, 1]


def test_real_keyframes(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((REPOSITORY / "tests" / "support" / "keyframes.yaml").read_text())
    config["workdir"] = "work"
    # The size of a patch grid is arithmetic: a small teacher's is as good a proof.
    config["teachers"]["dinov2_s"].update(model="vit_tiny_patch16_224", image_size=[112, 224])
    (tmp_path / "samples.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    loaded = load_config("samples.yaml")
    make_index(Path("work"), "nuscenes", loaded.datasets["nuscenes"])
    before = estimate(plan_experiment(loaded))
    for stage in ("scans", "views", "features"):
        griddle.main([stage, "--config", "samples.yaml"], standalone_mode=False)
    assert compare(before, Path("work/cache")) == {"scans", "views", "features"}


def test_only_what_is_missing_is_counted(finished: Any) -> None:
    plan = finished.plan()
    for manifest in (finished.work / "cache" / "features").rglob("*.json"):
        if ".zarr" not in str(manifest):
            manifest.unlink()
    rows = {row.stage: row for row in pending(plan, [lot for stage in STAGES for lot in plan.lots(stage)])}
    assert {stage: row.to_compute for stage, row in rows.items()} == {"scans": 0, "views": 0, "features": 1}
    assert rows["features"].images == 12
    assert rows["features"].bytes
    assert rows["scans"].bytes == rows["views"].bytes == 0


def test_views_of_scans_that_cannot_be_read_are_planned_all_the_same(finished: Any, tmp_path: Path) -> None:
    plan = finished.plan()
    (dataset,) = plan.experiment.config.datasets.values()
    gone = dataset.model_copy(update={"root": str(tmp_path / "nowhere")})
    shutil.copytree(finished.work / "index", tmp_path / "index")
    config = plan.experiment.config.model_copy(update={"datasets": {"nuscenes": gone}})
    rows = {row["stage"]: row for row in estimate(plan_experiment(config, tmp_path))["stores"]}
    assert rows["views"]["bytes"]
    assert rows["views"]["source"].startswith("not measured")


def test_the_rate_is_that_of_the_device_used_last(tmp_path: Path) -> None:
    assert recorded_rate(tmp_path / "nowhere") is None
    folder = tmp_path / "vit-0123" / "nuscenes"
    for number, (device, rate) in enumerate(
        [("cpu", 2), ("cpu", 2), ("cuda", 400), ("cuda", 500), ("cuda", 900)]
    ):
        write_json(folder / f"p{number}.json", {"made": {"device": device, "images_per_second": rate}})
    write_json(folder / "p5.json", {"made": {}})
    (folder / "p6.json").write_text("{ cut")
    (folder / "p6.zarr").mkdir()
    found = recorded_rate(tmp_path / "vit-0123")
    assert found is not None
    assert (found.images_per_second, found.source) == (500, "measured on cuda, 3 partition(s)")


def test_the_printed_plan_of_a_cache_that_is_complete(finished: Any) -> None:
    told = finished.griddle("plan", "--config", "config/tiny.yaml").stdout
    assert "the cache in work/tiny/cache is complete" in told
    assert "run wi_tiny: done" in told
    as_json = json.loads(finished.griddle("plan", "--config", "config/tiny.yaml", "--json").stdout)
    assert as_json["files"] == 0
    assert [row["stage"] for row in as_json["stores"]] == ["scans", "views", "features"]


def test_every_dimension_of_every_schema_is_planned() -> None:
    """A store that gains an array must be planned, too: this fails where a dimension is not known to the plan."""
    from pipeline.plan.cost.assumed import assume, parse_assumed

    for storage in ("float16", "float32", "int8"):
        config = Config.model_validate(
            {
                "datasets": {"nuscenes": {"reader": "nuscenes", "root": "x", "version": "x"}},
                "teachers": {"t": {"model": "vit_tiny_patch16_224", "storage": storage}},
                "students": {"s": {"datasets": ["nuscenes"], "teacher": "t"}},
            }
        )
        assumed = parse_assumed("nuscenes=80x6")
        facts = estimate(
            assume(config, assumed, None, None), shares={one.name: one.shares for one in assumed}
        )
        assert all(row["bytes"] for row in facts["stores"])

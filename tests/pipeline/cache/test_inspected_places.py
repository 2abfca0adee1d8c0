"""`inspect` knows every file and folder that the whole way leaves behind, by where it lies."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.publish import set_aside, working_folder, write_json
from pipeline.cache.inspect import inspect


def test_every_file_and_folder_of_a_finished_workdir_is_known(finished_master: Any) -> None:
    paths = [finished_master.work, *finished_master.work.rglob("*")]
    told = {path: inspect(path) for path in paths}
    json.dumps({str(path): facts for path, facts in told.items()})
    kinds = Counter(facts["what"] for facts in told.values())
    assert all("griddle" in kind for kind in kinds)
    assert kinds["griddle cache"] == kinds["griddle workdir"] == kinds["griddle checkpoint"] == 1
    assert kinds["griddle store"] == 3
    # of each store's one partition: the group, its manifest and its sidecar
    assert kinds["griddle partition"] == 9
    inside = [facts for facts in told.values() if facts["what"] == "part of a griddle partition"]
    files = [facts for facts in inside if "kind" in facts]
    assert {facts["kind"] for facts in files} == {"shard", "metadata"}
    assert all(facts["as_written"] for facts in files)


def test_a_cache_and_what_lies_between_it_and_its_stores(finished_master: Any) -> None:
    cache = finished_master.work / "cache"
    facts = inspect(cache)
    assert [store["kind"] for store in facts["stores"].values()] == ["scans", "views", "features"]
    on_disk = sum(path.stat().st_size for path in cache.glob("*/**/*.zarr/**/*") if path.is_file())
    assert facts["bytes"] == sum(store["bytes"] for store in facts["stores"].values()) == on_disk
    (name,) = [name for name in facts["stores"] if name.startswith("features")]
    store = inspect(cache / name)
    assert (store["what"], store["name"], store["cache"]) == ("griddle store", name, str(cache))
    assert (store["schema"], store["counts"], store["partitions"]) == ("features/3", {"images": 12}, 1)
    assert (store["older"], store["left_out"]) == ([], 0)
    assert store["identity"]["model"] == "vit_tiny_patch16_224"
    teacher = inspect((cache / name).parent)
    assert (teacher["what"], list(teacher["stores"])) == ("folder of a griddle cache", [name])
    weights = inspect(cache / "weights.lock.json")
    assert list(weights["weights"]) == [(cache / name).parent.name]
    assert "lock" in inspect(cache / ".weights.lock.json.lock")["what"]


def test_a_file_inside_a_partition(finished: Any) -> None:
    (shard,) = finished.work.glob("cache/scans/*/*.zarr/xyz/c/0/0")
    facts = inspect(shard)
    assert (facts["schema"], facts["array"], facts["kind"], facts["as_written"]) == (
        "scans/2",
        "xyz",
        "shard",
        True,
    )
    assert facts["size"] == shard.stat().st_size
    data = bytearray(shard.read_bytes())
    data[9] ^= 1
    shard.write_bytes(data)
    facts = inspect(shard)
    assert facts["as_written"] is False
    assert "run the same snakemake command again" in facts["problem"]
    assert inspect(shard.parent)["array"] == "xyz"
    (shard.parent / "7").write_text("what is this")
    assert "lists no such file" in inspect(shard.parent / "7")["problem"]
    (manifest,) = finished.work.glob("cache/scans/*/*.json")
    manifest.unlink()
    with pytest.raises(BadInput, match="no manifest beside it names it"):
        inspect(shard)
    with pytest.raises(BadInput, match="none of Griddle's files"):
        inspect(shard.parents[4])  # what was a store and has no manifest


def test_a_store_with_a_manifest_that_was_changed(finished: Any) -> None:
    (manifest,) = finished.work.glob("cache/views/*/*.json")
    manifest.write_text(manifest.read_text().replace('"views": 12', '"views": 13'))
    for path in (manifest, manifest.parent, finished.work / "cache"):
        with pytest.raises(DamagedCache, match="does not agree with its own digest"):
            inspect(path)


def test_what_writers_left(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, "scene-0061")
    (folder / "zarr" / "xyz").mkdir(parents=True)
    for path in (folder, folder / "zarr" / "xyz"):
        facts = inspect(path)
        assert (facts["of"], facts["pid"]) == ("scene-0061", os.getpid())
        assert "in progress" in facts["what"]
    write_json(tmp_path / "a.json", {})
    aside = set_aside(tmp_path / "a.json")
    assert inspect(aside)["of"] == "a.json"
    assert "set aside" in inspect(aside)["what"]


def test_files_of_a_run(finished_master: Any, tmp_path: Path) -> None:
    (run,) = finished_master.work.glob("runs/wi_tiny-*")
    for name, said in (
        ("config.yaml", "blocks"),
        ("metrics.csv", "loss"),
        ("resume", "checkpoints"),
        ("tensorboard", "curves"),
    ):
        facts = inspect(run / name)
        assert (facts["what"], facts["run"]) == ("part of a griddle run", str(run))
        assert said in facts["holds"]
    (event,) = (run / "tensorboard").iterdir()
    assert inspect(event)["run"] == str(run)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lease.json").write_text('{"host": "a", "pid": 3}')
    assert inspect(tmp_path / "run" / "lease.json")["host"] == "a"


def test_indices_logs_and_the_workdir(finished_master: Any, tmp_path: Path) -> None:
    work = finished_master.work
    facts = inspect(work)
    assert facts["folders"]["lots"]["files"] == 3
    assert facts["cache"] == str(work / "cache")
    assert inspect(work / "index" / "nuscenes") == inspect(work / "index" / "nuscenes" / "index.json")
    for path in (work / "index" / "nuscenes").glob("scene-0061.*.json"):
        entry = inspect(path)
        assert (entry["what"], entry["name"], entry["scans"]) == (
            "griddle index of a partition",
            "scene-0061",
            2,
        )
    (names,) = (work / "index" / "nuscenes").glob("scan-names.*.json")
    told = {"what": "griddle scan names", "dataset": "nuscenes", "partitions": 4, "scans": 8}
    assert {key: inspect(names)[key] for key in told} == told
    shutil.copytree(work / "index", tmp_path / "index")
    old = tmp_path / "index" / "nuscenes" / "scene-0061.0000000000.json"
    old.write_text("{}")
    assert "as it was before" in inspect(old)["what"]
    (log,) = (work / "logs" / "pretrain").iterdir()
    assert inspect(log)["job"] == f"pretrain/{log.stem}"
    assert inspect(work / "lots" / "views")["files"] == 1


def test_files_of_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "report" / "0011223344"
    write_json(folder / "done.json", {"griddle": "griddle report", "report_id": folder.name})
    for name in ("index.html", "results.csv", "results.md"):
        (folder / name).write_text("x")
        facts = inspect(folder / name)
        assert (facts["what"], facts["report"]) == ("part of a griddle report", folder.name)
    (folder.parent / "index.html").write_text("x")
    assert inspect(folder.parent / "index.html")["what"] == "griddle pointer to the latest report"
    assert inspect(folder) == inspect(folder / "done.json")


def test_a_name_alone_does_not_make_a_file_ours(tmp_path: Path) -> None:
    for name in (
        "index.html",
        "metrics.csv",
        "weights.lock.json",
        "lease.json",
        ".lock",
        "events.out.tfevents.1",
    ):
        path = tmp_path / "results" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        if name != "lease.json":
            with pytest.raises(BadInput, match="none of Griddle's files"):
                inspect(path)

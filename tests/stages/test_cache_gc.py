"""`griddle cache gc`: what no config refers to and what is left over, dry by default."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.manifest import read_manifest, seal
from cache_schemas.publish import write_json

Run = Callable[..., tuple[int, str]]
SCENES = ["scene-0061", "scene-0655"]


def manifest_of(work: Path, stage: str, scene: str = SCENES[0]) -> Path:
    level = {
        "scans": "scans/*",
        "labels": "scans/*/labels/*",
        "views": "views/*",
        "full_scans": "full_scans/*",
        "features": "features/*/*",
    }
    return next((work / "cache").glob(f"{level[stage]}/{scene}.*.json"))


def rewritten(path: Path, **changes: Any) -> None:
    """A manifest that agrees with its own digest, but says something else."""
    body = {
        k: v for k, v in read_manifest(path).body.items() if k not in ("griddle", "format", "digest", "made")
    }
    write_json(path, seal({**body, **changes}))


def gc(run: Run, *arguments: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    found = json.loads(run("cache", "gc", "--json", *arguments)[1])
    return sorted((i["kind"], Path(i["path"]).name.split(".")[0]) for i in found["items"]), found


def files_in(cache: Path) -> int:
    return sum(path.is_file() for path in cache.rglob("*"))


def test_gc_finds_nothing_where_all_is_wanted(run: Run) -> None:
    assert gc(run)[0] == []
    assert "nothing can go" in run("cache", "gc")[1]


def test_gc_lists_what_no_config_wants_and_deletes_on_demand(full: Any, run: Run) -> None:
    cache = full.work / "cache"
    full.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    before = files_in(cache)
    items, found = gc(run)
    assert items == [("partition", SCENES[1])] * 5
    assert files_in(cache) == before
    items, freed = gc(run, "--delete")
    assert (freed["bytes"], freed["files"]) == (found["bytes"], found["files"])
    assert files_in(cache) == before - freed["files"]
    assert not list(cache.rglob(f"{SCENES[1]}.*"))
    assert not list(cache.rglob(".*-removed-*"))
    assert gc(run)[0] == []
    assert run("cache", "verify")[0] == 0


def test_gc_keeps_what_another_config_wants(full: Any, run: Run) -> None:
    shutil.copy("config/tiny.yaml", "config/both.yaml")
    full.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    assert len(gc(run)[0]) == 5
    assert gc(run, "--config", "config/both.yaml")[0] == []


def test_gc_removes_whole_stores_and_their_folders(full: Any, run: Run) -> None:
    full.edit(lambda config: config["teachers"]["tiny"].update(seed=3))
    items, _ = gc(run, "--delete")
    assert items == [("partition", scene) for scene in SCENES]
    assert not list((full.work / "cache" / "features").glob("*"))
    # The lot manifest that named them is gone, too: with the old seed they would be computed again.
    assert not list((full.work / "lots" / "features").glob("*.json"))


def test_gc_keeps_content_that_two_versions_share(full: Any, run: Run) -> None:
    manifest = read_manifest(manifest_of(full.work, "scans"))
    old = manifest.path.with_name(f"{SCENES[0]}.aaaaaaaaaa.json")
    shutil.copy(manifest.path, old)
    rewritten(old, member_digest="aaaaaaaaaa")
    items, found = gc(run, "--delete")
    assert items == [("partition", SCENES[0])]
    assert found["files"] == 1
    assert manifest.store.exists()
    assert manifest.sidecar.exists()
    assert run("cache", "verify")[0] == 0


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_gc_takes_leftovers_but_not_the_work_of_the_living(full: Any, run: Run, dead_pid: int) -> None:
    store = manifest_of(full.work, "views").parent
    here = socket.gethostname()
    dead, living, far = (
        store / f".writing-scene-0061-{host}-{pid}-0a1b2c3d"
        for host, pid in ((here, dead_pid), (here, os.getpid()), ("elsewhere", dead_pid))
    )
    for folder in (dead, living, far):
        (folder / "zarr").mkdir(parents=True)
        (folder / "zarr" / "zarr.json").write_text("{}")
    aside = store / "scene-0061.0123456789.zarr.damaged-01234567"
    aside.mkdir()
    orphan = store / "scene-0061.0123456789.crc"
    orphan.write_bytes(b"1234")
    assert {Path(i["path"]).name for i in gc(run)[1]["items"]} == {dead.name, aside.name}
    assert "2 item(s)" in run("cache", "gc", "--delete")[1]
    assert not dead.exists()
    assert not aside.exists()
    assert living.exists()
    assert far.exists()
    assert orphan.exists()
    # Old enough, it goes wherever it comes from; the caller says what is old.
    found = gc(run, "--older-than", "-1", "--delete")[1]
    assert {i["kind"] for i in found["items"]} == {"unfinished", "unnamed"}
    assert not far.exists()
    assert not orphan.exists()
    assert run("cache", "verify")[0] == 0


def test_gc_refuses_two_caches_at_once_and_a_config_without_index(full: Any, run: Run) -> None:
    text = Path("config/tiny.yaml").read_text()
    Path("config/other.yaml").write_text(
        text.replace("workdir: work/tiny", "workdir: work/tiny\ncache: other")
    )
    code, said = run("cache", "gc", "--config", "config/other.yaml")
    assert code == 2
    assert "these configs use 2 caches" in said
    shutil.rmtree(full.work / "index")
    code, said = run("cache", "gc", "--delete")
    assert code == 2
    assert "has no index" in said

"""`griddle cache`: ls, du, verify with --repair, --sample and --recompute, and gc, on a real tiny cache."""

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
from stages.cli import main

Run = Callable[..., tuple[int, str]]
SCENES = ["scene-0061", "scene-0655"]


@pytest.fixture
def workspace(filled: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With every kind of store of two scenes; it is the current folder."""
    monkeypatch.chdir(filled.folder)
    return filled.workspace


@pytest.fixture
def griddle(workspace: Any, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; its exit code and what it printed."""

    def run(*arguments: str, config: str = "config/tiny.yaml") -> tuple[int, str]:
        capfd.readouterr()
        try:
            main([*arguments, "--config", config])
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        said = capfd.readouterr()
        return code, said.out if "--json" in arguments else said.out + said.err

    return run


def manifest_of(work: Path, stage: str, scene: str = SCENES[0]) -> Path:
    return next((work / "cache" / stage).glob(f"**/{scene}.*.json"))


def flip(path: Path, place: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def rewritten(path: Path, **changes: Any) -> None:
    """A manifest that agrees with its own digest, but says something else."""
    body = {
        k: v for k, v in read_manifest(path).body.items() if k not in ("griddle", "format", "digest", "made")
    }
    write_json(path, seal({**body, **changes}))


def test_ls_says_what_is_there_and_wanted(workspace: Any, griddle: Run) -> None:
    code, said = griddle("cache", "ls", "--json")
    rows = {row["stage"]: row for row in json.loads(said)["stores"]}
    assert code == 0
    assert list(rows) == ["scans", "labels", "views", "features"]
    for row in rows.values():
        manifests = [read_manifest(p) for p in (workspace.work / "cache" / row["store"]).glob("*.json")]
        assert (row["partitions"], row["wanted"]) == (2, 2)
        assert row["counts"] == {name: sum(m.counts[name] for m in manifests) for name in manifests[0].counts}
        assert row["identity"] == manifests[0].body["identity"]
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    _, said = griddle("cache", "ls", "--json")
    assert {row["wanted"] for row in json.loads(said)["stores"]} == {1}
    assert "4 store(s) in work/tiny/cache" in griddle("cache", "ls")[1]


def test_ls_and_du_agree_with_what_lies_there(workspace: Any, griddle: Run) -> None:
    cache = workspace.work / "cache"
    files = [path for path in cache.rglob("*") if path.is_file()]
    found = json.loads(griddle("cache", "du", "--json")[1])
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert found["files"] == len(files)
    beside = [path for path in cache.iterdir() if path.is_file()]  # weights.lock.json and its lock
    assert sum(row["files"] for row in found["stores"]) == len(files) - len(beside)
    listed = {row["store"]: row for row in json.loads(griddle("cache", "ls", "--json")[1])["stores"]}
    for row in found["stores"]:
        assert row["files"] == listed[row["store"]]["files"]
        # A manifest lists all but itself.
        own = sum(p.stat().st_size for p in (cache / row["store"]).glob("*.json"))
        assert row["bytes"] == listed[row["store"]]["bytes"] + own
    assert "free there" in griddle("cache", "du")[1]


def test_a_cache_that_is_not_there(workspace: Any, griddle: Run) -> None:
    shutil.rmtree(workspace.work / "cache")
    for command in (["ls"], ["du"], ["verify"]):
        code, said = griddle("cache", *command)
        assert code == 2
        assert "there is no cache in work/tiny/cache yet" in said


def test_verify_counts_what_it_checked(workspace: Any, griddle: Run) -> None:
    code, said = griddle("cache", "verify", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["problems"] == found["missing"] == []
    assert found["compared_with_index"]
    manifests = [read_manifest(p) for p in workspace.work.glob("cache/*/**/scene-*.json")]
    assert sum(row["partitions"] for row in found["stores"].values()) == len(manifests) == 8
    sums = sum(m.body["crc"]["size"] // 4 for m in manifests)
    assert sum(row["chunks"] for row in found["stores"].values()) == sums
    # Each manifest and sidecar, and all files of the stores.
    assert sum(row["files"] for row in found["stores"].values()) == sum(
        2 + len(m.body["files"]) for m in manifests
    )


@pytest.mark.parametrize("by", ["manifest", "store", "sidecar"])
def test_verify_of_one_partition_and_of_one_store(workspace: Any, griddle: Run, by: str) -> None:
    manifest = read_manifest(manifest_of(workspace.work, "views"))
    flip(next((manifest.store / "depth" / "c").iterdir()))
    path = {"manifest": manifest.path, "store": manifest.store, "sidecar": manifest.sidecar}[by]
    code, said = griddle("cache", "verify", str(path), "--json")
    found = json.loads(said)
    assert code == 1
    assert [row["partitions"] for row in found["stores"].values()] == [1]
    assert {p["path"].split(".zarr")[1] for p in found["problems"]} == {"/depth/c/0"}
    assert griddle("cache", "verify", str(workspace.work / "cache" / "views"))[0] == 1
    assert griddle("cache", "verify", str(workspace.work / "cache" / "scans"))[0] == 0


def test_verify_of_a_path_that_is_none_of_the_cache(workspace: Any, griddle: Run) -> None:
    code, said = griddle("cache", "verify", "work/tiny/cache/views/nowhere")
    assert code == 2
    assert "is no store, manifest or partition of the cache" in said
    assert griddle("cache", "verify", "toy")[0] == 2


def test_verify_needs_no_config_for_a_path(workspace: Any, griddle: Run) -> None:
    """The command that an error names works as it stands, wherever the cache lies."""
    shutil.move(workspace.work / "cache", "elsewhere")
    path = next(Path("elsewhere/views").glob("*/scene-0061.*.json"))
    code, said = griddle("cache", "verify", str(path), config="config/none.yaml")
    assert code == 0
    assert "not compared with an index" in said
    flip(read_manifest(path).sidecar)
    assert griddle("cache", "verify", str(path), config="config/none.yaml")[0] == 1
    code, _ = griddle("cache", "verify", "--repair", str(path), config="config/none.yaml")
    assert code == 0
    assert not list(path.parent.glob("scene-0061.*"))


def test_a_sample_takes_so_many(griddle: Run) -> None:
    found = json.loads(griddle("cache", "verify", "--sample", "3", "--json")[1])
    assert sum(row["partitions"] for row in found["stores"].values()) == 3


def snakemake(workspace: Any) -> str:
    done = workspace.snakemake("features_all")
    return done.stdout + done.stderr


def test_repair_removes_what_is_broken_and_snakemake_computes_just_that(workspace: Any, griddle: Run) -> None:
    cache = workspace.work / "cache"
    view, feature = manifest_of(workspace.work, "views"), manifest_of(workspace.work, "features", SCENES[1])
    flip(next((read_manifest(view).store / "depth" / "c").iterdir()))
    feature.write_bytes(feature.read_bytes()[:100])
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert griddle("cache", "verify")[0] == 1
    code, said = griddle("cache", "verify", "--repair")
    assert code == 0
    assert "removed 2 of them; run the same snakemake command again" in said
    for manifest in (view, feature):
        assert not list(manifest.parent.glob(f"{manifest.name.split('.')[0]}.*"))
        assert not list(manifest.parent.glob(".*"))
        stage = manifest.relative_to(cache).parts[0]
        assert not list((workspace.work / "lots" / stage).glob("*.json"))
    said = snakemake(workspace)
    assert sorted(line for line in said.splitlines() if "of 2 partition(s) to compute" in line) == [
        f"{stage} nuscenes train: 1 of 2 partition(s) to compute → {m.parent.relative_to(workspace.folder)}"
        for stage, m in (("features", feature), ("views", view))
    ]
    files = {path for path in cache.glob("*/**/*") if path.is_file()}
    anew = {path for path in files if before.get(path) != path.stat().st_mtime_ns}
    # Content digests are the old ones, so the paths are, too.
    assert {path.relative_to(cache).parts[0] for path in anew} == {"views", "features"}
    assert {path.name.split(".")[0] for path in anew if path.parent in (view.parent, feature.parent)} == set(
        SCENES
    )
    assert griddle("cache", "verify")[0] == 0


LIES: dict[str, tuple[str, Callable[[Any], dict[str, Any]], str]] = {
    "counts": ("scans", lambda m: {"counts": {**m.counts, "points": 7}}, "counts: points is 7 in the manifest, counted"),
    "a count that is none": ("features", lambda m: {"counts": {**m.counts, "x": 1}}, "counts: x is 1"),
    "identity": (
        "views",
        lambda m: {"identity": {**m.body["identity"], "voxel": 0.7}},
        "its identity is not that of the config: voxel is 0.7, wanted 0.1",
    ),
    "id": ("views", lambda m: {"identity": {**m.body["identity"], "voxel": 0.7}}, "the folder is for the id"),
    "schema": ("scans", lambda m: {"schema": "scans/9"}, "is of schema scans/9; this version of Griddle reads scans/1"),
    "size": (
        "labels",
        lambda m: {"files": {**m.body["files"], "zarr.json": {"size": 1, "sha256": "0"}}},
        "content digest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_found_out(workspace: Any, griddle: Run, lie: str) -> None:
    stage, change, told = LIES[lie]
    path = manifest_of(workspace.work, "scans" if stage == "labels" else stage)
    if stage == "labels":
        path = next((workspace.work / "cache").glob("scans/*/labels/*/scene-0061.*.json"))
    rewritten(path, **change(read_manifest(path)))
    code, said = griddle("cache", "verify")
    assert code == 1
    assert told in said
    assert str(path.relative_to(workspace.folder)) in said or ".zarr" in said


def test_what_the_index_does_not_know(workspace: Any, griddle: Run) -> None:
    """Two scenes' features exchanged whole, manifests renamed to fit: sound in themselves, of other images."""
    one, other = (manifest_of(workspace.work, "features", scene) for scene in SCENES)
    body = read_manifest(other).body
    changed = {**body, "partition": SCENES[0], "member_digest": one.name.split(".")[1]}
    mine = read_manifest(one)
    theirs = read_manifest(other)
    for suffix in ("zarr", "crc"):
        source = theirs.store if suffix == "zarr" else theirs.sidecar
        target = one.parent / f"{SCENES[0]}.{theirs.content_digest}.{suffix}"
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    shutil.rmtree(mine.store)
    mine.sidecar.unlink()
    rewritten(one, **{k: v for k, v in changed.items() if k in ("partition", "member_digest", "content_digest",
                                                                "files", "crc", "counts")})  # fmt: skip
    code, said = griddle("cache", "verify", str(one))
    assert code == 1
    assert "its attribute partition is 'scene-0655', the manifest says 'scene-0061'" in said
    assert "lists other images than the index" in said or "attribute" in said


def test_an_image_list_other_than_the_index(workspace: Any, griddle: Run) -> None:
    index = workspace.work / "index" / "nuscenes"
    (record,) = index.glob("scene-0061.*.json")
    text = record.read_text()
    record.write_text(text.replace("CAM_FRONT/", "CAM_SIDE/", 1))
    code, said = griddle("cache", "verify")
    assert code == 1
    assert said.count("lists other images than the index") == 2  # views and features


def test_files_that_nobody_wrote(workspace: Any, griddle: Run) -> None:
    manifest = read_manifest(manifest_of(workspace.work, "scans"))
    (manifest.store / "xyz" / "c" / "9").write_bytes(b"x")
    code, said = griddle("cache", "verify")
    assert code == 1
    assert "xyz/c/9: is in the store, but not in the manifest" in said


def test_partitions_that_are_not_there(workspace: Any, griddle: Run) -> None:
    path = manifest_of(workspace.work, "scans")
    path.unlink()
    code, said = griddle("cache", "verify")
    assert code == 1
    assert f"{path.name}: is missing, but" in said  # its lot says that it is complete
    for lot in (workspace.work / "lots" / "scans").glob("*.json"):
        lot.unlink()
    code, said = griddle("cache", "verify")
    assert code == 0
    assert "1 partition(s) of this config are not computed yet" in said
    assert "2 leftover(s)" in said  # its store and its sidecar


def test_a_lot_manifest_that_is_damaged(workspace: Any, griddle: Run) -> None:
    (lot,) = (workspace.work / "lots" / "views").glob("*.json")
    flip(lot, place=40)
    code, said = griddle("cache", "verify")
    assert code == 1
    assert f"{lot.name}: is damaged, or no lot manifest" in said
    assert griddle("cache", "verify", "--repair")[0] == 0
    assert not lot.exists()
    assert griddle("cache", "verify")[0] == 0


def test_recompute_compares_random_images(workspace: Any, griddle: Run) -> None:
    code, said = griddle("cache", "verify", "--recompute", "3", "--json")
    found = json.loads(said)["recomputed"]
    assert code == 0
    assert [item["result"] for item in found] == ["bit-equal"] * 3
    assert len({item["image"] for item in found}) == 3
    assert all(item["lowest_cosine"] > 0.999999 for item in found)


def test_recompute_finds_features_of_another_picture(workspace: Any, griddle: Run) -> None:
    """Every checksum fits; only the teacher can tell."""
    from PIL import Image

    for path in (workspace.folder / "toy" / "tiny" / "samples").glob("CAM_*/*"):
        size = path.stat().st_size
        Image.new("RGB", (112, 56), (200, 30, 90)).save(path, "JPEG", quality=20)
        with open(path, "ab") as file:
            file.write(b"\0" * (size - path.stat().st_size))
        assert path.stat().st_size == size
    assert griddle("cache", "verify")[0] == 0
    code, said = griddle("cache", "verify", "--recompute", "2")
    assert code == 1
    assert said.count("the teacher gives other features for samples/CAM_") == 2
    assert "0.9999 is needed" in said


# gc


def gc(griddle: Run, *arguments: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    found = json.loads(griddle("cache", "gc", "--json", *arguments)[1])
    return sorted((i["kind"], Path(i["path"]).name.split(".")[0]) for i in found["items"]), found


def files_in(cache: Path) -> int:
    return sum(path.is_file() for path in cache.rglob("*"))


def test_gc_finds_nothing_where_all_is_wanted(griddle: Run) -> None:
    assert gc(griddle)[0] == []
    assert "nothing can go" in griddle("cache", "gc")[1]


def test_gc_lists_what_no_config_wants_and_deletes_on_demand(workspace: Any, griddle: Run) -> None:
    cache = workspace.work / "cache"
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    before = files_in(cache)
    items, found = gc(griddle)
    assert items == [("partition", SCENES[1])] * 4
    assert files_in(cache) == before
    items, freed = gc(griddle, "--delete")
    assert (freed["bytes"], freed["files"]) == (found["bytes"], found["files"])
    assert files_in(cache) == before - freed["files"]
    assert not list(cache.rglob(f"{SCENES[1]}.*"))
    assert not list(cache.rglob(".*-removed-*"))
    assert gc(griddle)[0] == []
    assert griddle("cache", "verify")[0] == 0


def test_gc_keeps_what_another_config_wants(workspace: Any, griddle: Run) -> None:
    shutil.copy("config/tiny.yaml", "config/both.yaml")
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    assert len(gc(griddle)[0]) == 4
    assert gc(griddle, "--config", "config/both.yaml")[0] == []


def test_gc_removes_whole_stores_and_their_folders(workspace: Any, griddle: Run) -> None:
    workspace.edit(lambda config: config["teachers"]["tiny"].update(seed=3))
    items, _ = gc(griddle, "--delete")
    assert items == [("partition", scene) for scene in SCENES]
    assert not list((workspace.work / "cache" / "features").glob("*"))
    # The lot manifest that named them is gone, too: with the old seed they would be computed again.
    assert not list((workspace.work / "lots" / "features").glob("*.json"))


def test_gc_keeps_content_that_two_versions_share(workspace: Any, griddle: Run) -> None:
    manifest = read_manifest(manifest_of(workspace.work, "scans"))
    old = manifest.path.with_name(f"{SCENES[0]}.aaaaaaaaaa.json")
    shutil.copy(manifest.path, old)
    rewritten(old, member_digest="aaaaaaaaaa")
    items, found = gc(griddle, "--delete")
    assert items == [("partition", SCENES[0])]
    assert found["files"] == 1
    assert manifest.store.exists()
    assert manifest.sidecar.exists()
    assert griddle("cache", "verify")[0] == 0


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_gc_takes_leftovers_but_not_the_work_of_the_living(
    workspace: Any, griddle: Run, dead_pid: int
) -> None:
    store = manifest_of(workspace.work, "views").parent
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
    assert {Path(i["path"]).name for i in gc(griddle)[1]["items"]} == {dead.name, aside.name}
    assert "2 item(s)" in griddle("cache", "gc", "--delete")[1]
    assert not dead.exists()
    assert not aside.exists()
    assert living.exists()
    assert far.exists()
    assert orphan.exists()
    # Old enough, it goes wherever it comes from; the caller says what is old.
    found = gc(griddle, "--older-than", "-1", "--delete")[1]
    assert {i["kind"] for i in found["items"]} == {"unfinished", "unnamed"}
    assert not far.exists()
    assert not orphan.exists()
    assert griddle("cache", "verify")[0] == 0


def test_gc_refuses_two_caches_at_once_and_a_config_without_index(workspace: Any, griddle: Run) -> None:
    text = Path("config/tiny.yaml").read_text()
    Path("config/other.yaml").write_text(
        text.replace("workdir: work/tiny", "workdir: work/tiny\ncache: other")
    )
    code, said = griddle("cache", "gc", "--config", "config/other.yaml")
    assert code == 2
    assert "these configs use 2 caches" in said
    shutil.rmtree(workspace.work / "index")
    code, said = griddle("cache", "gc", "--delete")
    assert code == 2
    assert "has no index" in said

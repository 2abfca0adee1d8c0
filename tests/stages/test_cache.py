"""`griddle cache`: ls, du, verify with --repair, --sample and --recompute, and gc, on a real tiny cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import rewritten

from cache_schemas.canonical import digest, sealed
from cache_schemas.manifest import read_manifest
from cache_schemas.publish import write_json
from cache_schemas.reading import PartitionReader
from cache_schemas.removal import remove_partition
from cache_schemas.sources import sources_of
from cache_schemas.stores import schema_of
from cache_schemas.writing import PartitionWriter

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


def flip(path: Path, place: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_ls_says_what_is_there_and_wanted(full: Any, run: Run) -> None:
    code, said = run("cache", "ls", "--json")
    rows = {row["stage"]: row for row in json.loads(said)["stores"]}
    assert code == 0
    assert list(rows) == ["scans", "labels", "views", "full_scans", "features"]
    for row in rows.values():
        manifests = [read_manifest(p) for p in (full.work / "cache" / row["store"]).glob("*.json")]
        assert (row["partitions"], row["wanted"]) == (2, 2)
        assert row["counts"] == {name: sum(m.counts[name] for m in manifests) for name in manifests[0].counts}
        assert row["identity"] == manifests[0].body["identity"]
    full.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=SCENES[:1]))
    _, said = run("cache", "ls", "--json")
    assert {row["wanted"] for row in json.loads(said)["stores"]} == {1}
    assert "5 store(s) in work/tiny/cache" in run("cache", "ls")[1]


def test_ls_and_du_agree_with_what_lies_there(full: Any, run: Run) -> None:
    cache = full.work / "cache"
    files = [path for path in cache.rglob("*") if path.is_file()]
    found = json.loads(run("cache", "du", "--json")[1])
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert found["files"] == len(files)
    beside = [path for path in cache.iterdir() if path.is_file()]  # weights.lock.json and its lock
    assert sum(row["files"] for row in found["stores"]) == len(files) - len(beside)
    listed = {row["store"]: row for row in json.loads(run("cache", "ls", "--json")[1])["stores"]}
    for row in found["stores"]:
        assert row["files"] == listed[row["store"]]["files"]
        # A manifest lists all but itself.
        own = sum(p.stat().st_size for p in (cache / row["store"]).glob("*.json"))
        assert row["bytes"] == listed[row["store"]]["bytes"] + own
    assert "free there" in run("cache", "du")[1]


def test_a_cache_that_is_not_there(full: Any, run: Run) -> None:
    shutil.rmtree(full.work / "cache")
    for command in (["ls"], ["du"], ["verify"]):
        code, said = run("cache", *command)
        assert code == 2
        assert "there is no cache in work/tiny/cache yet" in said


def test_verify_counts_what_it_checked(full: Any, run: Run) -> None:
    code, said = run("cache", "verify", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["problems"] == found["missing"] == []
    assert found["compared_with_index"]
    manifests = [read_manifest(p) for p in full.work.glob("cache/*/**/scene-*.json")]
    assert sum(row["partitions"] for row in found["stores"].values()) == len(manifests) == 10
    sums = sum(m.body["crc"]["size"] // 4 for m in manifests)
    assert sum(row["chunks"] for row in found["stores"].values()) == sums
    # Each manifest and sidecar, and all files of the stores.
    assert sum(row["files"] for row in found["stores"].values()) == sum(
        2 + len(m.body["files"]) for m in manifests
    )


@pytest.mark.parametrize("by", ["manifest", "store", "sidecar"])
def test_verify_of_one_partition_and_of_one_store(full: Any, run: Run, by: str) -> None:
    manifest = read_manifest(manifest_of(full.work, "views"))
    flip(next((manifest.store / "depth" / "c").iterdir()))
    path = {"manifest": manifest.path, "store": manifest.store, "sidecar": manifest.sidecar}[by]
    code, said = run("cache", "verify", str(path), "--json")
    found = json.loads(said)
    assert code == 1
    assert [row["partitions"] for row in found["stores"].values()] == [1]
    assert {p["path"].split(".zarr")[1] for p in found["problems"]} == {"/depth/c/0"}
    assert run("cache", "verify", str(full.work / "cache" / "views"))[0] == 1
    assert run("cache", "verify", str(full.work / "cache" / "scans"))[0] == 0


def test_verify_of_a_path_that_is_none_of_the_cache(full: Any, run: Run) -> None:
    code, said = run("cache", "verify", "work/tiny/cache/views/nowhere")
    assert code == 2
    assert "is no store, manifest or partition of the cache" in said
    assert run("cache", "verify", "toy")[0] == 2


def test_verify_needs_no_config_for_a_path(full: Any, run: Run) -> None:
    """The command that an error names works as it stands, wherever the cache lies."""
    shutil.move(full.work / "cache", "elsewhere")
    path = next(Path("elsewhere/views").glob("*/scene-0061.*.json"))
    code, said = run("cache", "verify", str(path), config="config/none.yaml")
    assert code == 0
    assert "not compared with an index" in said
    flip(read_manifest(path).sidecar)
    assert run("cache", "verify", str(path), config="config/none.yaml")[0] == 1
    code, _ = run("cache", "verify", "--repair", str(path), config="config/none.yaml")
    assert code == 0
    assert not list(path.parent.glob("scene-0061.*"))


def test_a_sample_takes_so_many(run: Run) -> None:
    found = json.loads(run("cache", "verify", "--sample", "3", "--json")[1])
    assert sum(row["partitions"] for row in found["stores"].values()) == 3


def test_repair_removes_what_is_broken_and_snakemake_computes_just_that(full: Any, run: Run) -> None:
    cache = full.work / "cache"
    view = manifest_of(full.work, "views")
    flip(read_manifest(view).store / "depth" / "c" / "0")
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*/**/*") if path.is_file()}
    assert run("cache", "verify")[0] == 1
    code, said = run("cache", "verify", "--repair")
    assert code == 0
    assert "removed 1 of them; run the same snakemake command again" in said
    assert not list(view.parent.glob(f"{SCENES[0]}.*"))
    assert not list(view.parent.glob(".*"))
    assert not list((full.work / "lots" / "views").glob("*.json"))
    done = full.snakemake("features_all")
    computed = [line for line in done.stderr.splitlines() if "to compute" in line]
    assert computed == [
        "views nuscenes train: 1 of 2 partition(s) to compute → " + str(view.parent.relative_to(full.folder))
    ]
    after = {path: path.stat().st_mtime_ns for path in cache.glob("*/**/*") if path.is_file()}
    assert after.keys() == before.keys()  # content digests are the old ones
    anew = {path for path in after if before[path] != after[path]}
    assert {path.relative_to(view.parent).parts[0].split(".")[0] for path in anew} == {SCENES[0]}
    assert run("cache", "verify")[0] == 0


@pytest.mark.parametrize("damage", ["manifest cut", "sidecar gone", "shard empty", "store gone"])
def test_repair_and_the_stage_again(full: Any, run: Run, damage: str) -> None:
    manifest = read_manifest(manifest_of(full.work, "labels" if damage == "store gone" else "scans"))
    before = sorted(path.relative_to(full.work) for path in (full.work / "cache").rglob("*"))
    if damage == "manifest cut":
        manifest.path.write_bytes(manifest.path.read_bytes()[:100])
    elif damage == "sidecar gone":
        manifest.sidecar.unlink()
    elif damage == "shard empty":
        (manifest.store / "xyz" / "c" / "0" / "0").write_bytes(b"")
    else:
        shutil.rmtree(manifest.store)
    assert run("cache", "verify")[0] == 1
    assert run("cache", "verify", "--repair")[0] == 0
    assert not list(manifest.path.parent.glob(f"{manifest.partition}.*"))
    stage = manifest.body["schema"].split("/")[0]
    assert not list((full.work / "lots" / stage).glob("*.json"))
    assert (
        "1 of 2 partition(s) to compute"
        in run(*(["scans", "--labels"] if stage == "labels" else ["scans"]))[1]
    )
    assert run("cache", "verify")[0] == 0
    assert before == sorted(path.relative_to(full.work) for path in (full.work / "cache").rglob("*"))


LIES: dict[str, tuple[str, Callable[[Any], dict[str, Any]], str]] = {
    "counts": ("scans", lambda m: {"counts": {**m.counts, "points": 7}}, "counts: points is 7 in the manifest, counted"),
    "a count that is none": ("features", lambda m: {"counts": {**m.counts, "x": 1}}, "counts: x is 1"),
    "identity": (
        "views",
        lambda m: {"identity": {**m.body["identity"], "voxel": 0.7}},
        "its identity is not that of the config: voxel is 0.7, wanted 0.1",
    ),
    "id": ("views", lambda m: {"identity": {**m.body["identity"], "voxel": 0.7}}, "the folder is for the id"),
    "schema": ("scans", lambda m: {"schema": "scans/9"}, "is of schema scans/9; this version of Griddle reads scans/2"),
    "size": (
        "labels",
        lambda m: {"files": {**m.body["files"], "zarr.json": {"size": 1, "sha256": "0"}}},
        "content digest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_found_out(full: Any, run: Run, lie: str) -> None:
    stage, change, told = LIES[lie]
    path = manifest_of(full.work, stage)
    rewritten(path, **change(read_manifest(path)))
    code, said = run("cache", "verify", "--json")
    problems = json.loads(said)["problems"]
    assert code == 1
    assert any(told in problem["what"] for problem in problems), problems
    assert {problem["manifest"] for problem in problems} == {str(path.relative_to(full.folder))}
    assert told in run("cache", "verify")[1]


def test_features_under_the_name_of_another_scene(full: Any, run: Run) -> None:
    """The manifest is changed to fit its new name; the attributes of the store are not, and give it away."""
    one, other = (manifest_of(full.work, "features", scene) for scene in SCENES)
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
    code, said = run("cache", "verify", str(one), "--json")
    assert code == 1
    assert [problem["what"] for problem in json.loads(said)["problems"]] == [
        "its attribute partition is 'scene-0655', the manifest says 'scene-0061'"
    ]


def test_sound_features_of_another_scenes_images(full: Any, run: Run) -> None:
    """Written anew under the scene's name, with all that belongs to it: only the index knows better."""
    one, other = (read_manifest(manifest_of(full.work, "features", scene)) for scene in SCENES)
    schema = schema_of(other)
    reader = PartitionReader(other.path.parent, schema, other.partition, other.member_digest)
    with PartitionWriter(
        one.path.parent,
        schema,
        partition=one.partition,
        member_digest=one.member_digest,
        identity=one.body["identity"],
        attributes={name: reader.attributes[name] for name in schema.attributes},
    ) as writer:
        for spec in schema.arrays:
            writer.put(spec.name, reader.read(spec.name))
        writer.publish(counts=other.counts, left_out=[])
    code, said = run("cache", "verify", str(one.path), "--json")
    assert code == 1
    assert [problem["what"] for problem in json.loads(said)["problems"]] == [
        "lists other images than the index"
    ]


def test_an_image_list_other_than_the_index(full: Any, run: Run) -> None:
    """A sound index, in which the record names another image."""
    index = full.work / "index" / "nuscenes"
    (record,) = index.glob("scene-0061.*.json")
    other = json.loads(record.read_text().replace("CAM_FRONT/", "CAM_SIDE/", 1))
    name = f"scene-0061.{digest(other)}.json"
    write_json(index / name, other)
    body = json.loads((index / "index.json").read_text().replace(record.name, name))
    del body["digest"]
    write_json(index / "index.json", sealed(body))
    code, said = run("cache", "verify")
    assert code == 1
    assert said.count("lists other images than the index") == 2  # views and features


def test_a_record_of_the_index_that_was_changed(full: Any, run: Run) -> None:
    """It is the index that is damaged, and not the stores that do not agree with it."""
    (record,) = (full.work / "index" / "nuscenes").glob("scene-0061.*.json")
    record.write_text(record.read_text().replace("CAM_FRONT/", "CAM_SIDE/", 1))
    code, said = run("cache", "verify")
    assert code == 1
    assert f"{record.name}: is not the record that its name says" in said
    assert said.splitlines()[-2:] == [
        "10 partition(s) verified, all sound",
        "1 file(s) of the workdir are damaged; what mends each stands above",
    ]


def test_damage_of_scans_is_not_blamed_on_their_labels(full: Any, run: Run) -> None:
    manifest = read_manifest(manifest_of(full.work, "scans"))
    flip(manifest.store / "scan_offsets" / "c" / "0")
    found = json.loads(run("cache", "verify", "--json")[1])
    assert {p["manifest"] for p in found["problems"]} == {str(manifest.path.relative_to(full.folder))}


def test_files_that_nobody_wrote(full: Any, run: Run) -> None:
    manifest = read_manifest(manifest_of(full.work, "scans"))
    (manifest.store / "xyz" / "c" / "9").write_bytes(b"x")
    code, said = run("cache", "verify")
    assert code == 1
    assert "xyz/c/9: is in the store, but not in the manifest" in said


def test_partitions_that_are_not_there(full: Any, run: Run) -> None:
    path = manifest_of(full.work, "scans")
    path.unlink()
    code, said = run("cache", "verify")
    assert code == 1
    assert f"{path.name}: is missing, but" in said  # its lot says that it is complete
    for lot in (full.work / "lots" / "scans").glob("*.json"):
        lot.unlink()
    code, said = run("cache", "verify")
    assert code == 0
    assert "1 partition(s) of this config are not computed yet" in said
    assert "2 leftover(s)" in said  # its store and its sidecar


def test_a_lot_manifest_that_is_damaged(full: Any, run: Run) -> None:
    (lot,) = (full.work / "lots" / "views").glob("*.json")
    flip(lot, place=40)
    code, said = run("cache", "verify")
    assert code == 1
    assert f"{lot.name}: is damaged, or no lot manifest" in said
    assert run("cache", "verify", "--repair")[0] == 0
    assert not lot.exists()
    assert run("cache", "verify")[0] == 0


def test_recompute_compares_random_images_and_scans(full: Any, run: Run) -> None:
    code, said = run("cache", "verify", "--recompute", "3", "--json")
    items = json.loads(said)["recomputed"]
    assert code == 0
    by_stage = {
        stage: [i for i in items if i["stage"] == stage]
        for stage in ("scans", "labels", "views", "full_scans", "features")
    }
    assert all(len({item["what"] for item in some}) == 3 for some in by_stage.values())
    assert {item["result"] for item in items} == {"bit-equal"}
    assert all(item["lowest_cosine"] > 0.999999 for item in by_stage["features"])
    assert all(item["agreement"] == 1 for item in items if item["stage"] != "features")


def rewrite_values(work: Path, stage: str, name: str, other: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a stage's partitions anew, with other values in one array."""
    for scene in SCENES:
        path = manifest_of(work, stage, scene)
        manifest = read_manifest(path)
        schema = schema_of(manifest)
        stored = PartitionReader(path.parent, schema, scene, manifest.member_digest)
        arrays = {spec.name: stored.read(spec.name) for spec in schema.arrays}
        arrays[name] = other(arrays[name])
        attributes = stored.attributes
        remove_partition(path.parent, scene, manifest.member_digest)
        with PartitionWriter(
            path.parent,
            schema,
            partition=scene,
            member_digest=manifest.member_digest,
            identity=manifest.body["identity"],
            attributes=attributes,
        ) as writer:
            for array, values in arrays.items():
                writer.put(array, values)
            writer.publish(
                counts=manifest.counts,
                left_out=manifest.left_out,
                measured=manifest.body["measured"],
                sources=sources_of(manifest),
            )


def moved_now_and_then(values: np.ndarray) -> np.ndarray:
    """One pixel position of a hundred, by a tenth of a pixel."""
    values = values.copy()
    values[::100] += np.float32(0.1)
    return values


OTHER_VALUES = [
    ("scans", "xyz", lambda values: values + np.float32(0.002)),
    ("labels", "label", lambda values: np.where(values == 255, 255, values ^ 1).astype(np.uint8)),
    ("views", "pixel", moved_now_and_then),
    ("views", "depth", lambda values: values * np.float32(1.01)),
    ("views", "neighbours", lambda values: np.zeros_like(values)),
    ("full_scans", "nearest", lambda values: np.zeros_like(values)),
    ("full_scans", "neighbours", lambda values: np.zeros_like(values)),
    ("features", "features", lambda values: -values),
]


@pytest.mark.parametrize(("stage", "name", "other"), OTHER_VALUES)
def test_recompute_finds_other_values_whose_checksums_fit(
    full: Any, run: Run, stage: str, name: str, other: Callable[[np.ndarray], np.ndarray]
) -> None:
    """A store as an earlier fault may have written it: every checksum fits, and only computing again can tell."""
    rewrite_values(full.work, stage, name, other)
    folder = str(manifest_of(full.work, stage).parent)
    assert run("cache", "verify", folder)[0] == 0
    code, said = run("cache", "verify", "--recompute", "2", folder)
    what = "the teacher gives other features for " if stage == "features" else "values differ in "
    assert code == 1
    assert said.count(what) == 2, said
    assert said.count("is needed") == 2


def test_what_was_computed_of_wrong_scans_goes_with_them(full: Any, run: Run) -> None:
    rewrite_values(full.work, "scans", "xyz", lambda values: values + np.float32(0.002))
    code, said = run("cache", "verify", "--recompute", "9", "--repair")
    assert said.count("was computed of scans of nuscenes") >= 4, said
    left = {
        stage
        for stage in ("scans", "views", "full_scans")
        for _ in (full.work / "cache").glob(f"{stage}/*/*.json")
    }
    assert (code, left) == (0, set())


def test_recompute_takes_what_rounds_otherwise(full: Any, run: Run) -> None:
    """As another processor may: pixels moved by less than the published float32 steps move them, to 0.01."""
    rewrite_values(full.work, "views", "pixel", lambda values: values + np.float32(0.01))
    folder = str(manifest_of(full.work, "views").parent)
    code, said = run("cache", "verify", "--recompute", "2", folder)
    assert (code, said.count(": within tolerance (agreement ")) == (0, 2), said


def test_recompute_tells_a_replaced_file_from_a_damaged_store(full: Any, run: Run) -> None:
    from PIL import Image

    for path in (full.folder / "toy" / "tiny" / "samples").glob("CAM_*/*"):
        size = path.stat().st_size
        Image.new("RGB", (112, 56), (200, 30, 90)).save(path, "JPEG", quality=20)
        with open(path, "ab") as file:
            file.write(b"\0" * (size - path.stat().st_size))
        assert path.stat().st_size == size
    assert run("cache", "verify")[0] == 0
    code, said = run("cache", "verify", "--recompute", "2", "--repair")
    assert code == 1
    assert said.count(": source changed (lowest cosine") == 2, said
    assert "2 of them differ because their files hold something else now" in said
    assert "damaged" not in said
    assert run("cache", "verify")[0] == 0, "nothing was removed"

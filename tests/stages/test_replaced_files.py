"""Files of a dataset that are replaced by others of the same size: told apart by content, never by time alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import without
from PIL import Image

from cache_schemas.canonical import sealed
from cache_schemas.errors import GriddleError
from cache_schemas.manifest import read_manifest
from cache_schemas.publish import write_json
from cache_schemas.sources import content_of, sources_of
from pipeline.datasets.index import read_index
from pipeline.preprocessing.source_files import SourceFiles

Run = Callable[..., tuple[int, str]]
SCENE = "scene-0061"
MADE_OF = {
    "labels": {"labels"},
    "lidar": {"scans", "labels", "views", "full_scans"},
    "images": {"features"},
}


@pytest.fixture
def root(full: Any) -> Path:
    return full.folder / "toy" / "tiny"


def members(full: Any, scene: str = SCENE) -> dict[str, str | None]:
    index = read_index(full.work, "nuscenes")
    assert index is not None
    (entry,) = (entry for entry in index.partitions if entry.name == scene)
    return {**entry.members, "full_scans": entry.members["scans"]}


def file_of(full: Any, root: Path, kind: str) -> Path:
    """The first file of this kind that the scene reads."""
    index = read_index(full.work, "nuscenes")
    assert index is not None
    (entry,) = (entry for entry in index.partitions if entry.name == SCENE)
    scan = index.load_partition(entry).scans[0]
    return root / {"labels": str(scan.label_path), "lidar": scan.path, "images": scan.images[0].path}[kind]


def replace(path: Path, *, same_time: bool = False, in_place: bool = False) -> None:
    """Other content of the same size; a lidar or label file stays one, an image a JPEG."""
    data, facts = bytearray(path.read_bytes()), path.stat()
    if path.suffix == ".bin" and "lidarseg" in path.name:
        data[:] = bytes(24 if value != 24 else 17 for value in data)
    elif path.suffix == ".bin":
        values = np.frombuffer(bytes(data), "<f4").reshape(-1, 5).copy()
        values[:, 2] += 0.5
        data[:] = values.tobytes()
    else:
        Image.new("RGB", (112, 56), (200, 30, 90)).save(path, "JPEG", quality=20)
        data = bytearray(path.read_bytes())
        data += bytes(facts.st_size - len(data))
    if not in_place:
        path.unlink()
    path.write_bytes(data)
    assert path.stat().st_size == facts.st_size
    time = facts.st_mtime_ns if same_time else facts.st_mtime_ns + 10**9
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("kind", MADE_OF)
def test_what_was_made_of_a_replaced_file_is_made_anew_and_nothing_else(
    full: Any, run: Run, root: Path, kind: str
) -> None:
    before, path = members(full), file_of(full, root, kind)
    first = path.read_bytes()
    replace(path)
    code, said = run("index")
    assert (code, "1 file(s) of 1 partition(s) hold something else" in said) == (0, True), said
    assert str(path.relative_to(root)) in said
    after = members(full)
    assert {stage for stage in after if after[stage] != before[stage]} == MADE_OF[kind]
    assert members(full, "scene-0655")["scans"], "the other scene is as it was"

    plan = json.loads(run("plan", "--json")[1])["stores"]
    assert {store["stage"]: store["to_compute"] for store in plan} == {
        stage: int(stage in MADE_OF[kind]) for stage in ("scans", "labels", "views", "full_scans", "features")
    }
    # Looked at again, and again after the old partitions are gone: the same members.
    assert run("index", "--force")[0] == 0
    assert members(full) == after
    for stage in ("scans", "scans --labels", "views", "features"):
        assert run(*stage.split())[0] == 0
    assert run("cache", "gc", "--delete", "--older-than", "0")[0] == 0
    assert run("index", "--force")[0] == 0
    assert members(full) == after
    assert run("cache", "verify", "--sources")[0] == 0
    # The old release is put back: what was made of it first is asked for again.
    path.write_bytes(first)
    assert run("index", "--force")[0] == 0
    assert members(full) == before


def test_the_new_values_are_in_the_stores(full: Any, run: Run, root: Path) -> None:
    path = file_of(full, root, "lidar")
    before = np.fromfile(path, "<f4").reshape(-1, 5)[:, :3]
    replace(path)
    for command in ("index", "scans"):
        assert run(command)[0] == 0
    from cache_schemas.reading import PartitionReader
    from cache_schemas.scans import SCANS

    (folder,) = (full.work / "cache" / "scans").iterdir()
    stored = PartitionReader(folder, SCANS, SCENE, str(members(full)["scans"])).read("xyz", 0, len(before))
    assert np.array_equal(stored, before + np.float32([0, 0, 0.5]))


def test_another_time_alone_recomputes_nothing_and_is_looked_at_once(full: Any, run: Run, root: Path) -> None:
    """A root that was copied without its times."""
    before = members(full)
    for path in root.rglob("*"):
        if path.is_file() and "samples" in path.parts:
            os.utime(path, (1, 1))
    _, said = run("index", "--force")
    assert "their content was compared" in said
    assert members(full) == before
    _, said = run("index", "--force")
    assert "compared" not in said, "contents.json knows them now"


def test_a_damaged_contents_json_is_named_and_brings_nothing_back(full: Any, run: Run, root: Path) -> None:
    replace(file_of(full, root, "labels"))
    assert run("index")[0] == 0
    after = members(full)
    contents = full.work / "index" / "nuscenes" / "contents.json"
    contents.write_text(contents.read_text().replace('"looked_at"', '"looked_At"'))
    code, said = run("cache", "verify")
    assert (code, "contents.json: does not agree with its own digest" in said) == (1, True), said
    _, said = run("index", "--force")
    assert "contents.json does not agree with its own digest" in said
    assert members(full) == after, "what the stores began with is known in the cache, too"
    contents.unlink()
    os.mkfifo(contents)
    code, said = run("index", "--force")
    assert (code, "contents.json" in said, "a named pipe" in said) == (2, True, True), said


def test_what_the_stores_began_with_outlives_them(full: Any, run: Run, root: Path) -> None:
    """After gc nothing in the cache tells of the first content but this: in no workdir may the first ids come back."""
    replace(file_of(full, root, "labels"))
    for command in (["index"], ["scans"], ["scans", "--labels"], ["views"]):
        assert run(*command)[0] == 0
    after = members(full)
    assert run("cache", "gc", "--delete", "--older-than", "0")[0] == 0
    shutil.rmtree(full.work / "index")
    assert run("index")[0] == 0
    assert members(full) == after
    full.edit(lambda config: config.update(cache=str(full.work / "cache")))
    code, said = run("index", "--workdir", "elsewhere")
    assert code == 0, said
    index = read_index(Path("elsewhere"), "nuscenes")
    assert index is not None
    assert index.partitions[0].members["labels"] == after["labels"]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_that_kept_its_time_is_seen_where_it_was_indexed_before(
    full: Any, run: Run, root: Path, in_place: bool
) -> None:
    """As an archive whose files all have one time. The system tells when a file was changed, and nobody can set that."""
    before, path = members(full), file_of(full, root, "labels")
    shutil.copy2(path, full.folder / "first")
    assert run("index", "--force")[0] == 0
    replace(path, same_time=True, in_place=in_place)
    assert run("index", *(["--force"] if in_place else []))[0] == 0
    assert members(full)["labels"] != before["labels"]
    assert run("scans", "--labels")[0] == 0
    shutil.copy2(full.folder / "first", path)  # the old release again, with its time
    assert run("scans", "--labels")[0] == 0, "what is stored stays stored"
    assert run("index", "--force")[0] == 0
    assert members(full) == before
    assert run("cache", "verify", "--sources")[0] == 0


def test_a_file_that_kept_its_time_is_seen_by_verify_sources(full: Any, run: Run, root: Path) -> None:
    """In a root that was copied, of which nothing is known yet."""
    before, path = members(full), file_of(full, root, "labels")
    code, said = run("cache", "verify", "--sources")
    assert (code, "all are unchanged" in said) == (0, True), said
    replace(path, same_time=True, in_place=True)
    run("index", "--force")
    assert members(full) == before, "nothing but its content says so"
    assert run("cache", "verify")[0] == 0
    code, said = run("cache", "verify", "--sources")
    assert code == 1
    assert f"changed: toy/tiny/{path.relative_to(root)} holds something else than scans/" in said
    assert "damaged" not in said
    assert run("index", "--force")[0] == 0
    assert members(full)["labels"] != before["labels"]
    assert run("scans", "--labels")[0] == 0
    assert run("cache", "verify", "--sources")[0] == 0


def test_a_folder_that_kept_its_time_is_looked_into(full: Any, run: Run, root: Path) -> None:
    """As `tar` leaves it, which gives folders their old times when all is unpacked."""
    before, path = members(full), file_of(full, root, "labels")
    assert run("index", "--force")[0] == 0
    facts = path.parent.stat()
    replace(path)
    os.utime(path.parent, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert run("index")[0] == 0
    assert members(full)["labels"] != before["labels"]


def test_views_of_other_scans_than_the_scan_stores_are_refused(full: Any, run: Run, root: Path) -> None:
    """A damaged partition of scans is computed anew from a file that was overwritten meanwhile; nobody made an index."""
    (scans,) = (full.work / "cache" / "scans").glob(f"*/{SCENE}.*.json")
    scans.unlink()
    replace(file_of(full, root, "lidar"), in_place=True)
    assert run("scans")[0] == 0
    code, said = run("cache", "verify")
    assert code == 1
    assert said.count("the lidar files held something else when the scans of the first were read") == 2, said
    assert run("cache", "verify", "--repair")[0] == 0
    assert run("views")[0] == 0
    assert run("cache", "verify")[0] == 0


def test_recompute_goes_on_where_a_file_cannot_be_read(full: Any, run: Run, root: Path) -> None:
    file_of(full, root, "lidar").rename(full.folder / "away")
    code, said = run("cache", "verify", "--recompute", "4")
    assert code == 1
    assert "not computed (" in said
    assert "is missing" in said
    assert said.count("bit-equal") > 8
    assert "damaged" not in said


def test_files_that_are_gone_and_tables_that_were_edited_are_seen(full: Any, run: Run, root: Path) -> None:
    path = file_of(full, root, "images")
    path.rename(path.with_suffix(".away"))
    code, said = run("cache", "verify", "--sources")
    assert (code, f"{path.name} cannot be read: No such file" in said) == (1, True), said
    assert "0 changed and 1 are lost; 1 partition(s) are not as the index says" in said
    assert "Put lost files back first" in said
    path.with_suffix(".away").rename(path)
    table = next(root.rglob("calibrated_sensor.json"))
    table.write_text(table.read_text().replace("1.8", "1.7"))
    code, said = run("cache", "verify", "--sources", "--json")
    other = json.loads(said)["sources"]["other_records"]
    assert (code, len(other) >= 2) == (1, True), said
    assert "its files, their sizes or its calibration are not those of the index" in other[0]


def test_a_cache_that_others_filled_is_compared_too(full: Any, run: Run, root: Path) -> None:
    """A new workdir with the same cache, whose files were replaced before it was indexed."""
    before = members(full)
    full.edit(lambda config: config.update(cache=str(full.work / "cache")))
    replace(file_of(full, root, "labels"))
    shutil.rmtree(full.work / "index")
    assert run("index")[0] == 0
    assert members(full)["labels"] != before["labels"]
    assert members(full)["scans"] == before["scans"]


def test_stores_of_before_are_taken_as_they_are(full: Any, run: Run, root: Path) -> None:
    before = members(full)
    for path in (full.work / "cache").rglob(f"{SCENE}.*.json"):
        assert read_manifest(path).body["sources"]
        without(path, "sources")
        assert sources_of(read_manifest(path)) is None
    path = file_of(full, root, "labels")
    replace(path)
    os.utime(path, (2**32, 2**32))
    assert run("index")[0] == 0
    assert members(full) == before
    code, said = run("cache", "verify", "--sources")
    assert code == 0
    assert (
        "5 partition(s) were made by an older Griddle, which did not record what files held; 1 of their files are newer"
        in said
    )


def test_a_file_that_is_changed_after_the_index_is_refused(full: Any, run: Run, root: Path) -> None:
    path = file_of(full, root, "labels")
    replace(path)
    assert run("index")[0] == 0
    path.write_bytes(bytes(len(path.read_bytes())))
    code, said = run("scans", "--labels")
    assert (code, "was changed after the dataset was indexed" in said) == (1, True), said


def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"
    path.write_bytes(b"before")
    time = path.stat().st_mtime_ns

    def read_slowly() -> bytes:
        data = path.read_bytes()
        path.write_bytes(b"behind")
        os.utime(path, ns=(time, time))
        return data

    with pytest.raises(GriddleError, match="was changed while it was read"):
        SourceFiles(1).read(0, path, None, read_slowly)
    with pytest.raises(GriddleError, match="was changed while it was read"):
        SourceFiles(1).read(0, path, None, path.unlink)


def test_verify_sources_of_a_store_reads_the_files_of_that_store_alone(
    full: Any, run: Run, root: Path
) -> None:
    replace(file_of(full, root, "labels"))
    for stage, status in (("features", 0), ("scans", 1)):
        manifests = (full.work / "cache" / stage).rglob(f"{SCENE}.*.json")
        folder = min((path.parent for path in manifests), key=lambda folder: len(folder.parts))
        code, said = run("cache", "verify", "--sources", str(folder))
        assert (code, "changed: " in said) == (status, bool(status)), said


def test_partitions_that_came_or_went_are_said(full: Any, run: Run, root: Path) -> None:
    path = full.work / "index" / "nuscenes" / "index.json"
    body = json.loads(path.read_text())
    body.pop("digest")
    full.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=[SCENE]))
    first, *others = body["partitions"]
    gone = {**first, "name": "scene-9999"}
    write_json(path, sealed({**body, "partitions": [*others[:-1], first, gone]}))
    code, said = run("cache", "verify", "--sources")
    assert code == 1
    assert f"nuscenes {others[-1]['name']}: the index does not have it" in said
    assert "nuscenes scene-9999: the dataset has it no more" in said


def test_manifests_record_what_was_read(full: Any) -> None:
    index = read_index(full.work, "nuscenes")
    assert index is not None
    (entry,) = (entry for entry in index.partitions if entry.name == SCENE)
    record, root = index.load_partition(entry), full.folder / "toy" / "tiny"
    wanted = {
        "scans": [scan.path for scan in record.scans],
        "labels": [str(scan.label_path) for scan in record.scans],
        "features": [image.path for image in record.images],
    }
    wanted["views"] = wanted["full_scans"] = wanted["scans"]
    wanted["labels"] = [*wanted["labels"], *wanted["scans"]]
    for path in (full.work / "cache").rglob(f"{SCENE}.*.json"):
        manifest = read_manifest(path)
        sources = sources_of(manifest)
        assert sources is not None
        stage = manifest.body["schema"].split("/")[0]
        contents = [content_of(root / name) for name in wanted[stage]]
        assert [content and content.digest for content in sources] == [c.digest for c in contents]
        assert [content and content.time for content in sources] == [c.time for c in contents]

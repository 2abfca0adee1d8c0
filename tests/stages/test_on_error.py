"""`on_error: skip`: a file that cannot be read is left out, counted and listed, and no reader gives it out; raise is the
default, and what was written under skip is not valid under it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from read_view import read_view
from toy_files import scene_files, scene_labels

from cache_schemas.errors import BadInput
from griddle import open_cache
from pipeline.streaming.scan_source import ScanSource
from pipeline.streaming.seen_points import SeenSource
from pipeline.streaming.view_source import ViewSource
from stages.cli import main

SCENES = ["scene-0061", "scene-0655"]


@dataclass
class World:
    """Two indexed scenes of two scans and twelve images each, a student, and probes of it and of its teacher."""

    workspace: Any
    toy: Path
    capture: Any

    def griddle(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was said."""
        self.capture.readouterr()
        code = 0
        try:
            main([*arguments, "--config", "config/tiny.yaml"])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, "".join(self.capture.readouterr())

    def on_error(self, choice: str) -> None:
        self.workspace.edit(lambda config: config["datasets"]["nuscenes"].update(on_error=choice))

    def manifest(self, store: str, scene: str = SCENES[0]) -> Path:
        (path,) = (self.workspace.work / "cache").glob(f"{store}/{scene}.*.json")
        return path

    def body(self, store: str, scene: str = SCENES[0]) -> dict[str, Any]:
        return json.loads(self.manifest(store, scene).read_bytes())

    def to_compute(self) -> dict[str, int]:
        """By stage, how many partitions `griddle plan` says are still to be computed."""
        stores = json.loads(self.griddle("plan", "--json")[1])["stores"]
        return {store["stage"]: store["to_compute"] for store in stores}

    def lots(self, stage: str) -> list[dict[str, Any]]:
        """The partitions that the lot manifests of a stage name."""
        found = sorted((self.workspace.work / "lots" / stage).glob("*.json"))
        return [one for path in found for one in json.loads(path.read_bytes())["partitions"]]


def with_probes(config: dict[str, Any]) -> None:
    """Two scenes, and a probe of the student and of its teacher."""
    config["datasets"]["nuscenes"]["partitions"] = SCENES
    baselines = {"epochs": 1, "batch": 1, "warmup_epochs": 0, "evaluate": "train", "baselines": ["teacher"]}
    config["probes"] = {"p": baselines}
    config["students"]["wi_tiny"]["probes"] = ["p"]


@pytest.fixture
def world(workspace: Any, toy: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> World:
    workspace.edit(with_probes)
    monkeypatch.chdir(workspace.folder)
    made = World(workspace, toy, capfd)
    assert made.griddle("index")[0] == 0
    return made


def spoil(path: Path) -> bytes:
    """Other bytes, as many: only who reads the file sees it. Returns those that were there."""
    before = path.read_bytes()
    path.write_bytes(before[::-1])
    return before


def test_an_image_that_cannot_be_read(world: World) -> None:
    bad = scene_files(world.toy, SCENES[0], "CAM_BACK")[1]
    sound = spoil(bad)
    store = "features/*/nuscenes"

    code, said = world.griddle("features")
    assert code == 2, "raise is the default"
    assert f"{bad.name} is no image that can be read" in said
    assert "datasets.nuscenes.on_error: skip" in said
    assert not list((world.workspace.work / "cache").glob(f"{store}/{SCENES[0]}.*.json"))

    world.on_error("skip")
    code, said = world.griddle("features")
    assert code == 0
    assert "1 of 2 partition(s) to compute" in said, (
        "the choice is in no id: what is sound is not computed again"
    )
    path = bad.relative_to(world.toy).as_posix()
    assert f"left out: {path}: " in said
    assert "12 images, 1 unreadable" in said
    body = world.body(store)
    assert body["counts"] == {"images": 12, "unreadable": 1}
    (item,) = body["left_out"]
    assert (item["what"], "no image that can be read" in item["why"]) == (path, True)
    named = {one["name"]: one for one in world.lots("features")}
    assert named[SCENES[0]]["left_out"] == body["left_out"]
    assert named[SCENES[1]]["counts"] == {"images": 12}
    group = zarr.open_group(
        next((world.workspace.work / "cache").glob(f"{store}/{SCENES[0]}.*.zarr")), mode="r"
    )
    row = list(group.attrs["images"]).index(path)
    assert group.attrs["unreadable"] == [row]
    skipped = group["features"][:]
    assert not skipped[row].any()
    assert skipped[np.arange(12) != row].any(axis=(1, 2, 3)).all()

    cache = open_cache(world.workspace.work / "cache").features()
    assert cache.unreadable == [path]
    for ask in (
        cache.patch_grid,
        cache.pixel_features,
        lambda p: cache.features_at(p, [[1, 1]], original=(112, 56)),
    ):
        with pytest.raises(BadInput, match=rf"{path} has no features .*no image that can be read"):
            ask(path)
    code, said = world.griddle("inspect", str(world.manifest(store)))
    assert (code, path in said, "unreadable: 1" in said) == (0, True, True)
    code, said = world.griddle("cache", "verify", "--recompute", "24")
    assert code == 0, said
    assert said.count("(lowest cosine") == 23, "the one that could not be read is not computed again"
    assert f"recomputed {path}" not in said

    world.on_error("raise")
    code, said = world.griddle("features")
    assert (code, bad.name in said, "1 of 2 partition(s) to compute" in said) == (2, True, True)
    world.on_error("skip")
    code, said = world.griddle("features")
    assert (code, "0 of 2 partition(s) to compute" in said) == (0, True)
    assert world.body(store) == body

    bad.write_bytes(sound)
    world.on_error("raise")
    assert world.griddle("features")[0] == 0
    mended = world.body(store)
    assert (mended["counts"], mended["left_out"]) == ({"images": 12}, [])
    assert mended["member_digest"] == body["member_digest"]
    (where,) = (
        p
        for p in (world.workspace.work / "cache").glob(f"{store}/{SCENES[0]}.{mended['content_digest']}.zarr")
    )
    now = zarr.open_array(where / "features")[:]
    others = np.arange(12) != row
    np.testing.assert_array_equal(now[others], skipped[others])
    assert now[row].any()


def test_a_partition_of_which_nothing_can_be_read_is_an_error_under_skip_too(world: World) -> None:
    world.on_error("skip")
    for camera in ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT"):
        for path in scene_files(world.toy, SCENES[0], f"CAM_{camera}"):
            path.unlink()
    code, said = world.griddle("features")
    assert code == 2
    assert "none of its 12 images can be read" in said
    for path in scene_files(world.toy, SCENES[1], "LIDAR_TOP"):
        path.unlink()
    for stage, what in (("scans",), "lidar files"), (("scans", "--labels"), "label files"):
        code, said = world.griddle(*stage)
        assert code == 2
        assert f"none of its 2 {what} can be read" in said


def test_a_lidar_file_and_a_label_file_that_cannot_be_read(world: World) -> None:
    lidar = scene_files(world.toy, SCENES[0], "LIDAR_TOP")[0]
    lidar.write_bytes(lidar.read_bytes()[:-7])
    label = scene_labels(world.toy, SCENES[1])[1]
    label.write_bytes(bytes([200]) * label.stat().st_size)
    stages: list[tuple[str, ...]] = [("scans",), ("scans", "--labels"), ("views",)]
    for stage in stages[:2]:
        assert world.griddle(*stage)[0] == 2

    world.on_error("skip")
    for stage in (*stages, ("features",)):
        code, said = world.griddle(*stage)
        assert code == 0, said
        if stage != ("features",):
            assert f"left out: {lidar.relative_to(world.toy)}: " in said
    scans, labels, views = "scans/nuscenes-*", "scans/nuscenes-*/labels/*", "views/*"
    assert world.body(scans)["counts"]["unreadable"] == 1
    assert world.body(labels)["counts"]["unreadable"] == 1
    assert world.body(views)["counts"]["unreadable"] == 1
    assert world.body(views)["counts"]["unusable_views"] == 6
    assert world.body("full_scans/*")["counts"]["unreadable"] == 1
    assert "unreadable" not in world.body(scans, SCENES[1])["counts"]
    assert world.body(labels, SCENES[1])["left_out"][0]["what"] == label.relative_to(world.toy).as_posix()
    code, said = world.griddle("cache", "verify")
    assert code == 0, said

    plan = world.workspace.plan()
    run = plan.runs["wi_tiny"]
    source = ViewSource(plan.experiment.cache, run.readings, plan.experiment.teachers_of(run.student))
    drawable, unusable = source.scans()
    assert (len(drawable), len(unusable)) == (3, 1)
    assert [lidar.name in told for told in source.left_out["nuscenes"]] == [True]
    probes = {probe.kind: probe for probe in plan.probe_runs.values()}
    of_points = ScanSource(plan.experiment.cache, probes["distilled"].train)
    seen = SeenSource(
        plan.experiment.cache,
        probes["teacher"].train,
        teachers=plan.experiment.teachers_of(run.student),
        sampling="published",
    )
    for probed in (of_points, seen):
        assert len(probed.scans()) == 2, "neither the scan without points nor the one without labels"
        assert len(probed.left_out["nuscenes"]) == 2

    assert world.to_compute() == dict.fromkeys(("scans", "labels", "views", "full_scans", "features"), 0)
    world.on_error("raise")
    lacking = {"scans": 1, "labels": 2, "views": 1, "full_scans": 1, "features": 0}
    assert world.to_compute() == lacking, "as the stages do, which take none of these for valid"
    for stage in stages:
        code, said = world.griddle(*stage)
        assert code == 2, stage
        assert (
            f"{lacking['labels' if '--labels' in stage else stage[0]]} of 2 partition(s) to compute" in said
        )
        assert lidar.name in said
    code, said = world.griddle("pretrain", "--run", plan.experiment.run_path(run).name)
    assert code == 2
    assert "the cache lacks 1 file(s) of nuscenes" in said


def test_readers_never_draw_an_image_that_could_not_be_read(world: World) -> None:
    bad = scene_files(world.toy, SCENES[0], "CAM_FRONT")[0]
    spoil(bad)
    world.on_error("skip")
    for stage in (("scans",), ("scans", "--labels"), ("views",), ("features",)):
        assert world.griddle(*stage)[0] == 0
    plan = world.workspace.plan()
    run = plan.runs["wi_tiny"]
    teachers = plan.experiment.teachers_of(run.student)
    source = ViewSource(plan.experiment.cache, run.readings, teachers)
    places, unusable = source.scans()
    images = zarr.open_group(next(plan.experiment.cache.glob(f"views/*/{SCENES[0]}.*.zarr")), mode="r").attrs[
        "images"
    ]
    row = list(images).index(bad.relative_to(world.toy).as_posix())
    drawn = {(place.reading, view) for place in places for view in place.views}
    assert (len(drawn), (0, row) in drawn, unusable) == (23, False, [])
    with pytest.raises(ValueError, match=f"image {row} .* could not be read"):
        read_view(source, 0, row, 0)
    bare = ViewSource(plan.experiment.cache, run.readings, ())
    assert len({(p.reading, v) for p in bare.scans()[0] for v in p.views}) == 24, (
        "who reads no grid may draw it"
    )
    probe = next(probe for probe in plan.probe_runs.values() if probe.kind == "teacher")
    seen = SeenSource(plan.experiment.cache, probe.train, teachers=teachers, sampling="published")
    grids = [len(seen.read([place]).targets[0].values) for place in seen.scans()]
    assert sorted(grids) == [5, 6, 6, 6]


@pytest.mark.whole
def test_the_whole_way_trains_without_it_and_says_so(world: World) -> None:
    workspace, toy = world.workspace, world.toy
    bad = scene_files(toy, SCENES[0], "CAM_BACK")[0]
    spoil(bad)
    path = bad.relative_to(toy).as_posix()
    world.on_error("skip")
    workspace.edit(lambda config: config["probes"]["p"].update(baselines=[]))
    for stage in (("scans",), ("scans", "--labels"), ("views",)):  # in this process: that is faster
        assert world.griddle(*stage)[0] == 0
    done = workspace.snakemake("pretrain_all")
    assert f"left out: {path}: " in done.stdout + done.stderr
    logs = [p for p in (workspace.work / "logs").rglob("*.log") if path in p.read_text()]
    assert {p.relative_to(workspace.work / "logs").parts[0] for p in logs} >= {"features", "pretrain"}
    plan = workspace.plan()
    folder = plan.experiment.run_path(plan.runs["wi_tiny"])
    (told,) = json.loads((folder / "provenance.json").read_bytes())["unreadable"]
    assert told.startswith(f"nuscenes {SCENES[0]}: {path}: ")
    report = next((workspace.work / "report").glob("*/results.md")).parent
    for text in (
        (report / "results.md").read_text(),
        (report / "index.html").read_text(),
        " ".join(world.griddle("report")[1].split()),
    ):
        assert "left out: 1 file(s) that could not be read (on_error: skip)" in text
        assert path in text
    assert "without 1 unreadable file(s)" in (report / "results.md").read_text()
    trained = [folder / "weights.safetensors", folder / "done.json", *folder.glob("probe/*/done.json")]
    assert len(trained) == 3
    before = [path.stat().st_mtime_ns for path in trained]

    # Under raise the features are to be computed again, and cannot be; what is trained stays trained.
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(on_error="raise"))
    refused = workspace.snakemake("pretrain_all", check=1)
    said = refused.stdout + refused.stderr
    assert f"{bad.name} is no image that can be read" in said
    assert "rule features" in said
    assert "rule pretrain:" not in said
    assert [path.stat().st_mtime_ns for path in trained] == before

"""Values that cannot be right are refused with their file, unlikely ones are kept in the manifest and shown; `allow` takes both."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kitti_tree import WHOLE
from PIL import Image
from toy_files import scene_files, scene_labels

from stages.cli import main

SCENE = "scene-0061"


@dataclass
class World:
    """One indexed scene of two scans and twelve images."""

    workspace: Any
    toy: Path
    capture: Any

    def griddle(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was said; for --json what was printed."""
        self.capture.readouterr()
        code = 0
        try:
            main([*arguments, "--config", "config/tiny.yaml"])
        except SystemExit as end:
            code = int(end.code or 0)
        said = self.capture.readouterr()
        return code, said.out if "--json" in arguments else said.out + said.err

    def write(self, **keys: Any) -> None:
        """Keys of the dataset's block."""
        self.workspace.edit(lambda config: config["datasets"]["nuscenes"].update(keys))

    def manifests(self, store: str) -> list[Path]:
        """Those of a kind of store, the newest last."""
        paths = (self.workspace.work / "cache").rglob(f"{SCENE}.*.json")
        own = [path for path in paths if json.loads(path.read_bytes())["schema"].split("/")[0] == store]
        return sorted(own, key=lambda path: path.stat().st_mtime_ns)

    def manifest(self, store: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.manifests(store)[-1].read_bytes())
        return body

    def warned(self) -> list[str]:
        """As the plan has it."""
        return json.loads(self.griddle("plan", "--json")[1])["warnings"]

    def lidar(self, number: int) -> Path:
        return scene_files(self.toy, SCENE, "LIDAR_TOP")[number]

    def change_points(self, number: int, change: Any) -> None:
        points = np.fromfile(self.lidar(number), "<f4").reshape(-1, 5)
        change(points)
        points.tofile(self.lidar(number))

    def change_table(self, name: str, change: Any) -> None:
        path = self.toy / "v1.0-trainval" / f"{name}.json"
        rows = json.loads(path.read_text())
        for row in rows:
            change(row)
        path.write_text(json.dumps(rows))


@pytest.fixture
def world(workspace: Any, toy: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> World:
    def with_a_probe(config: dict[str, Any]) -> None:
        config["datasets"]["nuscenes"]["partitions"] = [SCENE]
        config["probes"] = {"p": {"epochs": 1, "batch": 1, "warmup_epochs": 0, "evaluate": "train"}}
        config["students"]["wi_tiny"]["probes"] = ["p"]

    workspace.edit(with_a_probe)
    monkeypatch.chdir(workspace.folder)
    made = World(workspace, toy, capfd)
    assert made.griddle("index")[0] == 0
    return made


def zeros(share: float) -> Any:
    def change(points: np.ndarray) -> None:
        points[: int(share * len(points))] = 0

    return change


def test_a_sound_tree_is_silent(world: World) -> None:
    code, said = world.griddle("index", "--look", "2")
    assert code == 0
    assert "looked at 2 scans (0." in said
    assert "and 12 images (0." in said
    for stage in ("scans", "scans --labels", "views", "features"):
        code, more = world.griddle(*stage.split())
        assert code == 0
        said += more
    assert "warning" not in said
    assert world.warned() == []
    for store in ("scans", "views", "features", "labels"):
        assert "warnings" not in world.manifest(store), "a manifest of what is sound is as it was"


def test_what_is_unlikely_is_kept_and_shown(world: World) -> None:
    world.change_points(1, zeros(0.1))
    name = world.lidar(1).relative_to(world.toy).as_posix()
    code, said = world.griddle("index", "--look", "2")
    assert (
        code,
        f"warning: nuscenes: origin: 1 file(s) of 1 partition(s); {SCENE}: 1 of 2 lidar files" in said,
    ) == (
        0,
        True,
    )
    code, said = world.griddle("scans")
    assert code == 0
    assert f"warning: origin: 1 of 2 lidar files, the first {name}: " in said
    (entry,) = world.manifest("scans")["warnings"]
    assert (entry["kind"], entry["count"]) == ("origin", 1)
    assert "are at the origin (0, 0, 0)" in entry["why"]
    (lot,) = (world.workspace.work / "lots" / "scans").glob("*.json")
    assert json.loads(lot.read_bytes())["partitions"][0]["warnings"] == [entry]
    (line,) = world.warned()
    assert line.startswith("nuscenes: origin: 1 file(s) of 1 partition(s); ")
    assert f"warning: {line}" in world.griddle("plan")[1]
    lot.unlink()
    assert world.warned() == [line], "where the lot is not done, from the partitions that are"
    assert world.griddle("cache", "verify")[0] == 0
    facts = json.loads(world.griddle("inspect", "--json", str(world.manifests("scans")[0]))[1])
    assert facts["warnings"] == [entry]
    world.write(allow=["origin"])
    assert world.warned() == []
    code, said = world.griddle("scans")
    assert (code, "0 of 1 partition(s) to compute" in said) == (0, True), "it is in no id"


def test_what_cannot_be_right_is_refused_unless_it_is_allowed(world: World) -> None:
    world.change_points(0, zeros(0.6))
    for call in (("index", "--look", "1"), ("scans",), ("scans", "--labels")):
        code, said = world.griddle(*call)
        assert code == 2
        assert world.lidar(0).name in said
        assert "(0, 0, 0)" in said
        assert "allow: [origin]" in said
    world.write(on_error="skip")
    code, said = world.griddle("index", "--look", "1")
    assert (code, "cannot be used" in said) == (0, True)
    for call in (("scans",), ("scans", "--labels")):
        code, said = world.griddle(*call)
        assert (code, "1 unreadable" in said) == (0, True)
    assert world.manifest("labels")["counts"]["points"] == world.manifest("scans")["counts"]["points"]
    world.write(on_error="raise", allow=["origin"])
    assert world.griddle("scans")[0] == 0
    assert world.griddle("scans", "--labels")[0] == 0
    assert world.griddle("index", "--look", "2")[0] == 0
    assert world.warned() == []
    world.write(allow=[])
    (line,) = world.warned()
    assert "origin" in line, "what was allowed is known, and nothing is computed again"
    assert "0 of 1 partition(s) to compute" in world.griddle("scans")[1]


def test_intensities_of_another_scale_are_refused(world: World) -> None:
    def from_0_to_1(points: np.ndarray) -> None:
        points[:, 3] /= 255

    world.change_points(0, from_0_to_1)
    code, said = world.griddle("scans")
    assert code == 2
    assert "another scale, such as 0 to 255 for 0 to 1" in said
    assert world.lidar(0).name in said


def test_times(world: World) -> None:
    first, second = (path.relative_to(world.toy).as_posix() for path in (world.lidar(0), world.lidar(1)))
    image = scene_files(world.toy, SCENE, "CAM_BACK")[0].relative_to(world.toy).as_posix()

    def earlier(row: dict[str, Any]) -> None:
        row["timestamp"] -= {second: 60_000_000, image: 900_000}.get(row["filename"], 0)

    world.change_table("sample_data", earlier)
    code, said = world.griddle("index", "--look", "1")
    assert code == 0
    assert (
        f"times: 2 file(s) of 1 partition(s); {SCENE}: 2 of 2 scans, the first {first}: its image {image} is 0."
        in said
    )
    assert world.griddle("scans")[0] == 0
    (entry,) = world.manifest("scans")["warnings"]
    assert (entry["kind"], entry["count"]) == ("times", 2)


def test_labels_without_a_class(world: World) -> None:
    path = scene_labels(world.toy, SCENE)[0]
    path.write_bytes(bytes(len(path.read_bytes())))
    code, said = world.griddle("index", "--look", "2")
    assert (code, f"labels: 1 file(s) of 1 partition(s); {SCENE}: 1 of 2 label files" in said) == (0, True)
    world.griddle("scans")
    assert world.griddle("scans", "--labels")[0] == 0
    (entry,) = world.manifest("labels")["warnings"]
    assert entry["kind"] == "labels"
    assert path.name in entry["what"]


def up(toy: Path, cameras: int) -> dict[str, list[float]]:
    """Calibrations of so many cameras that look at the sky, by token."""
    sensors = json.loads((toy / "v1.0-trainval" / "sensor.json").read_text())
    names = sorted(row["channel"] for row in sensors if row["channel"].startswith("CAM_"))[:cameras]
    tokens = {row["token"] for row in sensors if row["channel"] in names}
    rows = json.loads((toy / "v1.0-trainval" / "calibrated_sensor.json").read_text())
    return {row["token"]: [1.0, 0.0, 0.0, 0.0] for row in rows if row["sensor_token"] in tokens}


def test_a_camera_that_sees_nothing_is_warned_of_and_none_that_sees_is_refused(world: World) -> None:
    assert world.griddle("scans")[0] == 0
    original = (world.toy / "v1.0-trainval" / "calibrated_sensor.json").read_text()
    for cameras, code, camera in ((1, 0, "CAM_BACK"), (6, 2, "CAM_FRONT")):
        rotations = up(world.toy, cameras)

        def look_up(row: dict[str, Any], rotations: dict[str, list[float]] = rotations) -> None:
            row["rotation"] = rotations.get(row["token"], row["rotation"])

        world.change_table("calibrated_sensor", look_up)
        got, said = world.griddle("index", "--look", "2")
        assert got == code
        assert f"camera {camera} sees no point of its 2 scan(s)" in said
        got, said = world.griddle("views")
        assert got == code
        assert f"camera {camera} sees no point of its 2 scan(s)" in said
        if not code:
            (entry,) = world.manifest("views")["warnings"]
            assert (entry["kind"], entry["what"]) == ("cameras", "1 of 6 cameras, the first CAM_BACK")
        (world.toy / "v1.0-trainval" / "calibrated_sensor.json").write_text(original)
    assert "allow: [cameras]" in said


def test_pictures_that_are_black_or_the_same(world: World) -> None:
    pictures = scene_files(world.toy, SCENE, "CAM_FRONT") + scene_files(world.toy, SCENE, "CAM_BACK")
    with Image.open(pictures[0]) as opened:
        Image.new("RGB", opened.size).save(pictures[0])
    shutil.copy(pictures[2], pictures[3])
    code, said = world.griddle("index", "--force", "--look", "2")
    assert code == 0
    assert f"images: 2 file(s) of 1 partition(s); {SCENE}: 2 of 12 images looked at, the first " in said
    assert world.griddle("features")[0] == 0
    (entry,) = world.manifest("features")["warnings"]
    assert (entry["kind"], entry["count"]) == ("images", 2)
    assert entry["what"].startswith("2 of 12 images, the first ")
    assert entry["what"].endswith(pictures[0].name)


def test_an_unknown_kind_is_refused_with_those_that_there_are(world: World) -> None:
    world.write(allow=["orgin"])
    code, said = world.griddle("plan")
    assert code == 2
    assert "datasets.nuscenes.allow" in said
    assert "origin" in said


@pytest.fixture
def kitti(world: World) -> Path:
    """The lidar files of a sequence of four scans in SemanticKITTI's layout, without labels, which the config now names."""
    folder = world.workspace.folder / "kitti" / "sequences" / "00"
    random = np.random.default_rng(0)
    for kind in ("velodyne", "image_2"):
        (folder / kind).mkdir(parents=True)
    (folder / "calib.txt").write_text(WHOLE)
    for number in range(4):
        columns = [random.uniform(*sides, 1200) for sides in ((2, 40), (-20, 20), (-2, 2), (0, 0.99))]
        np.column_stack(columns).astype("<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        pixels = random.integers(0, 255, (36, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "image_2" / f"{number:06d}.png")

    def change(config: dict[str, Any]) -> None:
        config["datasets"]["nuscenes"] = {"reader": "semantic_kitti", "root": "kitti"}
        config["students"]["wi_tiny"].pop("probes")
        config.pop("probes")

    world.workspace.edit(change)
    assert world.griddle("index", "--look", "4")[0] == 0
    return folder / "velodyne"


def test_five_numbers_a_point_are_not_read_as_four(world: World, kitti: Path) -> None:
    path = kitti / "000002.bin"
    points = np.fromfile(path, "<f4").reshape(-1, 4)
    np.column_stack([points, np.arange(len(points)) % 64]).astype("<f4").tofile(path)
    for call in (("index", "--force", "--look", "4"), ("scans",)):
        code, said = world.griddle(*call)
        assert code == 2
        assert "five numbers a point are read as four" in said
        assert path.name in said
    world.write(allow=["columns"])
    code, said = world.griddle("scans")
    assert (code, "intensities are out of range" in said) == (2, True), "each kind is allowed by itself"
    world.write(allow=["columns", "intensity"])
    assert world.griddle("scans")[0] == 0


def test_short_scans_and_times_that_go_back(world: World, kitti: Path) -> None:
    path = kitti / "000001.bin"
    path.write_bytes(path.read_bytes()[: 16 * 200])
    (kitti.parent / "times.txt").write_text("0.0\n0.1\n0.2\n0.15\n")
    code, said = world.griddle("index", "--force", "--look", "4")
    assert code == 0
    for kind, name in (("short", "000001.bin"), ("times", "000003.bin")):
        assert f"warning: nuscenes: {kind}: 1 file(s) of 1 partition(s)" in said
        assert f"{name}: " in said
    assert world.griddle("scans")[0] == 0
    assert [line.split(": ")[1] for line in world.warned()] == ["short", "times"]

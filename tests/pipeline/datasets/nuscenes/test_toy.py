"""The toy tree as nuScenes' own devkit sees it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from nuscenes import NuScenes
from nuscenes.eval.lidarseg.evaluate import LidarSegEval
from nuscenes.utils import splits
from PIL import Image

from cache_schemas.errors import BadInput
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.datasets.nuscenes.toy_scene import CLASS_OF, WORLD, open_world, recordings
from pipeline.datasets.nuscenes.toy_tables import CAMERAS
from pipeline.datasets.town.parameters import Parameters
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.raycast import cast
from stages.toy import toy

SIZES = {"scans": 2, "image": (72, 128), "beams": 16, "azimuths": 120}


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def recorded(root: Path) -> dict[str, tuple[int, bytes]]:
    """All that is written once and for all: time of change and bytes."""
    folders = ("samples", "lidarseg", "toy")
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_toy(root, train=1, val=2, processes=1, **SIZES)
    return root


@pytest.fixture(scope="module")
def devkit(tree: Path) -> NuScenes:
    return NuScenes("v1.0-trainval", str(tree), verbose=False)


def test_another_number_of_processes_writes_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    write_toy(tmp_path, train=1, val=2, processes=2, **SIZES)
    assert files_of(tmp_path) == files_of(tree)


def test_one_more_scene_changes_no_old_file(tmp_path: Path) -> None:
    small = SIZES | {"scans": 1, "image": (36, 64)}
    write_toy(tmp_path, train=1, val=1, processes=1, **small)
    before = recorded(tmp_path)
    said = []
    made = write_toy(tmp_path, train=2, val=1, processes=1, progress=lambda *a: said.append(a), **small)
    after = recorded(tmp_path)
    assert {name: after[name] for name in before} == before
    assert made.written == ("scene-0655",)
    assert set(made.reused) == {"scene-0061", "scene-0103"}
    assert [(name, what) for name, what, _, _ in said if what != "kept"] == [("scene-0655", "written")]
    assert (made.scenes, made.scans, made.images) == (3, 3, 18)
    assert {row["name"] for row in json.loads((tmp_path / "v1.0-trainval/scene.json").read_text())} == {
        "scene-0061",
        "scene-0103",
        "scene-0655",
    }
    everything = recorded(tmp_path)
    tables = {path: path.stat().st_mtime_ns for path in tmp_path.glob("v1.0-*/*.json")}
    write_toy(tmp_path, train=2, val=1, processes=1, **small)
    assert recorded(tmp_path) == everything
    assert {path: path.stat().st_mtime_ns for path in tables} == tables


def test_a_damaged_or_unfinished_scene_is_rendered_again(tmp_path: Path) -> None:
    small = SIZES | {"scans": 1, "image": (36, 64)}
    write_toy(tmp_path, train=1, val=1, processes=1, **small)
    before = files_of(tmp_path)
    next((tmp_path / "samples/CAM_BACK").glob("*.jpg")).write_bytes(b"")
    (tmp_path / "toy/scene-0103.json").write_text("{")
    write_toy(tmp_path, train=1, val=1, processes=1, **small)
    assert files_of(tmp_path) == before


def test_labels_can_come_later(tmp_path: Path) -> None:
    small = SIZES | {"scans": 1, "image": (36, 64)}
    with_labels, without = tmp_path / "a", tmp_path / "b"
    write_toy(with_labels, train=1, val=1, processes=1, **small)
    write_toy(without, train=1, val=1, processes=1, labels=False, **small)
    assert not (without / "lidarseg").exists()
    assert not (without / "v1.0-trainval/lidarseg.json").exists()
    NuScenes("v1.0-mini", str(without), verbose=False)
    images = recorded(without)
    made = write_toy(without, train=1, val=1, processes=1, **small)
    assert made.written == ()
    assert {name: recorded(without)[name] for name in images} == images
    assert files_of(without) == files_of(with_labels)


@pytest.mark.parametrize(
    "change", [{"beams": 8}, {"seed": 1}, {"scans": 3}, {"image": (36, 64)}, {"azimuths": 60}]
)
def test_other_parameters_are_refused_by_name(tree: Path, change: dict) -> None:
    before = files_of(tree)
    with pytest.raises(BadInput, match=next(iter(change))) as refused:
        write_toy(tree, train=1, val=2, processes=1, **(SIZES | change))
    assert refused.value.exit_code == 2
    assert files_of(tree) == before


@pytest.mark.parametrize(
    "asked", [{"train": 701}, {"val": -1}, {"train": 0, "val": 0}, {"scans": 0}, {"beams": 1}]
)
def test_impossible_numbers_are_refused(tmp_path: Path, asked: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(asked))):
        write_toy(tmp_path, **asked)
    assert not any(tmp_path.iterdir())


def test_recordings_of_others_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini/scene.json").write_text("[]")
    with pytest.raises(BadInput, match="did not write"):
        write_toy(tmp_path, train=1, val=0, processes=1, **SIZES)
    assert files_of(tmp_path) == {"v1.0-mini/scene.json": b"[]"}


def test_command_writes_and_says_what_comes_next(tmp_path: Path) -> None:
    asked = [
        "--root",
        str(tmp_path / "toy"),
        "--train",
        "1",
        "--val",
        "0",
        "--scans",
        "1",
        "--processes",
        "1",
    ]
    first = CliRunner().invoke(toy, asked, catch_exceptions=False)
    assert "1 scenes written, 0 were there already" in first.output
    assert "snakemake pretrain_all --cores 8" in first.output
    assert (
        "0 scenes written, 1 were there already"
        in CliRunner().invoke(toy, asked, catch_exceptions=False).output
    )


def test_devkit_loads_both_versions(tree: Path, devkit: NuScenes) -> None:
    mini = NuScenes("v1.0-mini", str(tree), verbose=False)
    names = {scene["name"] for scene in devkit.scene}
    assert names == {"scene-0061", "scene-0103", "scene-0916"}
    assert names & {*splits.mini_train, *splits.mini_val} == {scene["name"] for scene in mini.scene}
    assert [c["name"] for c in sorted(devkit.category, key=lambda c: c["index"])] == list(devkit.colormap)
    for scene in devkit.scene:
        token, seen = scene["first_sample_token"], []
        while token:
            sample = devkit.get("sample", token)
            assert set(sample["data"]) == {"LIDAR_TOP", *CAMERAS}
            assert sample["prev"] == (seen[-1] if seen else "")
            seen.append(token)
            token = sample["next"]
        assert len(seen) == scene["nbr_samples"] == SIZES["scans"]
        assert seen[-1] == scene["last_sample_token"]
    for data in devkit.sample_data:
        path = Path(devkit.get_sample_data_path(data["token"]))
        assert data["filename"].split("__")[1] == data["channel"]
        assert data["filename"].split("__")[2].split(".")[0] == str(data["timestamp"])
        if data["prev"]:
            assert devkit.get("sample_data", data["prev"])["next"] == data["token"]
        if data["channel"] == "LIDAR_TOP":
            points = np.fromfile(path, np.float32).reshape(-1, 5)
            labels = np.fromfile(tree / devkit.get("lidarseg", data["token"])["filename"], np.uint8)
            assert len(points) == len(labels) > 1000
            assert set(np.unique(labels)) <= set(CLASS_OF.values())
            assert set(np.unique(points[:, 4])) <= set(range(SIZES["beams"]))
        else:
            assert Image.open(path).size == (data["width"], data["height"]) == (128, 72)


def test_points_fall_on_pixels_of_their_class(devkit: NuScenes) -> None:
    """The devkit's projection of the lidar agrees with a class image cast from each camera's own place and instant."""
    parameters = Parameters(seed=0, world=WORLD, **SIZES)
    class_of = np.array([CLASS_OF[label] for label in Label] + [255])
    agreed, agreed_inside, counted, counted_inside = 0, 0, 0, 0
    for scene in devkit.scene:
        world = open_world(scene["name"], parameters)
        for group in recordings(scene["name"], world)[1]:
            lidar = group[0].token(scene["name"])
            labels = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", lidar)["filename"], np.uint8)
            for recording in group[1:]:
                camera, mount = world.cameras[recording.channel]
                hits = cast(world.town.primitives, camera.rays(recording.ego @ mount))
                image = class_of[np.append(world.town.primitives.label, 10)[hits.primitive]]
                pixels, depth, shown = devkit.explorer.map_pointcloud_to_image(
                    lidar, recording.token(scene["name"])
                )
                assert shown.size == (128, 72)
                _, colours, _ = devkit.explorer.map_pointcloud_to_image(
                    lidar, recording.token(scene["name"]), show_lidarseg=True
                )
                assert len(colours) == len(depth)
                palette = np.array([devkit.colormap[c] for c in devkit.colormap]) / 255
                truth = np.abs(colours[:, None, :3] - palette).sum(-1).argmin(1)
                assert set(truth) <= set(labels)
                col, row = pixels[:2].astype(int)
                around = np.stack([image[row + i, col + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
                inside = (around == around[4]).all(0)
                rays = np.sqrt(
                    ((pixels[0] - camera.cx) / camera.fx) ** 2
                    + ((pixels[1] - camera.cy) / camera.fy) ** 2
                    + 1
                )
                inside &= (
                    depth * rays < hits.distance[row, col] + 0.5
                )  # else the camera sees something before it
                agreed += (image[row, col] == truth).sum()
                counted += len(truth)
                agreed_inside += (image[row, col] == truth)[inside].sum()
                counted_inside += inside.sum()
    assert counted > 3000
    assert counted_inside > 0.6 * counted
    assert agreed / counted > 0.85
    assert agreed_inside / counted_inside > 0.98


def test_official_evaluation_runs_and_scores_the_truth_as_perfect(tree: Path, tmp_path: Path) -> None:
    mini = NuScenes("v1.0-mini", str(tree), verbose=False)
    folder = tmp_path / "lidarseg" / "mini_val"
    folder.mkdir(parents=True)
    evaluation = LidarSegEval(mini, str(tmp_path), eval_set="mini_val")
    for row in mini.lidarseg:
        labels = np.fromfile(tree / row["filename"], np.uint8)
        evaluation.mapper.convert_label(labels).astype(np.uint8).tofile(
            folder / f"{row['token']}_lidarseg.bin"
        )
    assert evaluation.evaluate()["miou"] == pytest.approx(1.0)
    assert len(evaluation.sample_tokens) == 2 * SIZES["scans"]

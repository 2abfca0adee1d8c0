"""Bad input: a message that says what, where, how many and what to do; exit code 2; nothing published, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_files import scene_files

from stages.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def griddle(workspace: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Calls the command line in this process, in the workspace; returns its exit code and what it said."""
    monkeypatch.chdir(workspace.folder)
    workspace.edit(
        lambda config: config["datasets"]["nuscenes"].update(partitions=["scene-0061", "scene-0655"])
    )

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        try:
            main([*arguments, "--config", "config/tiny.yaml"])
        except SystemExit as end:
            return int(end.code or 0), capfd.readouterr().err
        return 0, capfd.readouterr().err

    return run


def published(workspace: Any) -> dict[str, bytes]:
    """Every partition manifest of the cache, with its bytes."""
    cache = workspace.work / "cache"
    found = list(cache.glob("*/**/scene-*.json")) if cache.exists() else []
    return {str(path.relative_to(cache)): path.read_bytes() for path in found}


def test_a_root_that_does_not_exist(workspace: Any, griddle: Run) -> None:
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(root="nowhere"))
    code, said = griddle("index")
    assert code == 2
    assert "datasets.nuscenes: nowhere does not exist" in said
    assert not published(workspace)


def test_a_root_of_another_version(workspace: Any, griddle: Run) -> None:
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(version="v1.0-test"))
    code, said = griddle("index")
    assert code == 2
    assert "does not hold nuScenes v1.0-test" in said
    assert "write `version: v1.0-" in said


def test_a_scene_with_a_missing_image(workspace: Any, griddle: Run, toy: Path) -> None:
    gone = scene_files(toy, "scene-0061", "CAM_BACK")[0]
    gone.unlink()
    code, said = griddle("index")
    assert code == 2
    assert "1 of 2 partition(s) cannot be used" in said
    assert said.count("1 of its files are missing") == 1
    assert gone.name in said
    assert "leave_out: [scene-0061]" in said
    # And that is what mends it.
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(leave_out=["scene-0061"]))
    code, said = griddle("index")
    assert code == 0
    assert said.count("cannot be used: scene-0061: 1 of its files are missing") == 1, (
        "it is left out, and still said"
    )


@pytest.mark.parametrize("damage", ["truncated", "not a JPEG", "another size"])
def test_an_image_that_cannot_be_read(workspace: Any, griddle: Run, toy: Path, damage: str) -> None:
    assert griddle("index")[0] == 0
    image = scene_files(toy, "scene-0061", "CAM_FRONT")[1]
    if damage == "truncated":
        image.write_bytes(image.read_bytes()[:-400])
    elif damage == "not a JPEG":
        image.write_bytes(b"<html>404</html>" * 100)
    else:
        from PIL import Image

        Image.new("RGB", (40, 30)).save(image)
    griddle("index", "--force")  # the file's size is part of its partition's member digest
    code, said = griddle("features")
    assert code == 2
    assert image.name in said
    assert "1 of 2 partition(s) of nuscenes cannot be computed" in said
    assert "leave_out: [scene-0061]" in said
    # The sound partition of the lot is not lost, the broken one not published.
    assert [Path(name).name.split(".")[0] for name in published(workspace)] == ["scene-0655"]
    assert not list((workspace.work / "lots" / "features").glob("*.json"))


def test_a_lidar_file_that_was_cut(workspace: Any, griddle: Run, toy: Path) -> None:
    lidar = scene_files(toy, "scene-0061", "LIDAR_TOP")[0]
    lidar.write_bytes(lidar.read_bytes()[:-7])
    code, said = griddle("index")
    assert code == 2
    assert lidar.name in said
    assert "no positive multiple of 20" in said
    assert not published(workspace)


def test_an_image_that_was_overwritten_in_place(griddle: Run, toy: Path) -> None:
    assert griddle("index")[0] == 0
    first, second = scene_files(toy, "scene-0061", "CAM_FRONT")
    first.write_bytes(second.read_bytes())
    code, said = griddle("features")
    assert code == 2
    assert first.name in said
    assert "griddle index --force" in said


def test_a_lidar_file_cut_after_it_was_indexed(workspace: Any, griddle: Run, toy: Path) -> None:
    assert griddle("index")[0] == 0
    lidar = scene_files(toy, "scene-0061", "LIDAR_TOP")[0]
    lidar.write_bytes(lidar.read_bytes()[:-7])
    code, said = griddle("scans")
    assert code == 2
    assert lidar.name in said
    assert [Path(name).name.split(".")[0] for name in published(workspace)] == ["scene-0655"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_that_are_not_finite(workspace: Any, griddle: Run, toy: Path, value: float) -> None:
    assert griddle("index")[0] == 0
    lidar = scene_files(toy, "scene-0061", "LIDAR_TOP")[1]
    points = np.fromfile(lidar, np.float32).reshape(-1, 5)
    points[[3, 5], [0, 2]] = value
    points.tofile(lidar)
    code, said = griddle("scans")
    assert code == 2
    assert f"{lidar.name} holds 2 of {len(points)} points with NaN or infinite values" in said
    assert [Path(name).name.split(".")[0] for name in published(workspace)] == ["scene-0655"]


def test_an_empty_split(workspace: Any, griddle: Run) -> None:
    workspace.edit(lambda config: config["students"]["wi_tiny"].update(splits=["test"]))
    code, said = griddle("index")
    assert code == 2
    assert "students.wi_tiny.splits: dataset nuscenes (v1.0-trainval) has no partition in split test" in said
    assert "2 in train, 0 in val" in said


def test_two_datasets_of_one_name(workspace: Any, griddle: Run) -> None:
    text = workspace.config_path.read_text()
    block = "  nuscenes: {reader: nuscenes, root: elsewhere, version: v1.0-mini}\n"
    workspace.config_path.write_text(text.replace("datasets:\n", "datasets:\n" + block, 1))
    code, said = griddle("index")
    assert code == 2
    assert "the key 'nuscenes' is already there in line" in said


def test_tables_without_any_file(workspace: Any, griddle: Run, toy: Path) -> None:
    shutil.rmtree(toy / "samples")
    code, said = griddle("index")
    assert code == 2
    assert "nothing to read: 4 partition(s) without any file: " in said


def test_a_scene_without_any_file_is_left_out_counted_and_listed(griddle: Run, toy: Path) -> None:
    for channel in ("LIDAR_TOP", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK",
                    "CAM_BACK_LEFT", "CAM_FRONT_LEFT"):  # fmt: skip
        for path in scene_files(toy, "scene-0103", channel):
            path.unlink()
    code, said = griddle("index")
    assert code == 0
    assert "left out: 1 partition(s) without any file: scene-0103" in said
    assert "3 partition(s)" in said


def test_a_partition_that_the_dataset_does_not_have(workspace: Any, griddle: Run) -> None:
    workspace.edit(lambda config: config["datasets"]["nuscenes"].update(partitions=["scene-0060"]))
    code, said = griddle("index")
    assert code == 2
    assert "no partition 'scene-0060'; did you mean scene-0061?" in said


def test_a_table_that_is_no_json(griddle: Run, toy: Path) -> None:
    table = toy / "v1.0-trainval" / "sample.json"
    table.write_bytes(table.read_bytes()[:-100])
    code, said = griddle("index")
    assert code == 2
    assert "is no valid JSON" in said


def test_bad_input_is_said_by_snakemake_too(workspace: Any, toy: Path) -> None:
    scene_files(toy, "scene-0061", "CAM_BACK")[0].unlink()
    done = workspace.snakemake("pretrain_all", check=2)
    assert "1 of its files are missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not published(workspace)


def test_a_teacher_that_cannot_be_had_is_no_fault_of_the_recordings(workspace: Any, griddle: Run) -> None:
    assert griddle("index")[0] == 0
    workspace.edit(lambda config: config["teachers"]["tiny"].update(model="vit_tiny_patch16_225"))
    code, said = griddle("features")
    assert code == 2
    assert said.count("nor timm has a model 'vit_tiny_patch16_225'") == 1
    assert "leave_out" not in said

"""`open_run`: a trained student gives the features that the network gives, to any scan, from its folder alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import griddle
from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.manifest import open_partition
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from pipeline.cache.inspect import inspect
from pipeline.geometry.full_scan import full_scan
from pipeline.plan.plan import Plan
from pipeline.plan.run_record import changed_files
from pipeline.streaming.scan_batches import evaluation_sample
from pipeline.streaming.scan_source import ScanPoints
from pipeline.students.distilled import build
from pipeline.students.packed import pack


def run_folder(workspace: Any) -> Path:
    (folder,) = workspace.work.glob("runs/wi_tiny-*")
    return folder


@pytest.fixture(scope="module")
def scan(finished_master: Any) -> tuple[np.ndarray, np.ndarray]:
    (path,) = finished_master.work.glob("cache/scans/*/*.json")
    partition, member, _ = path.name.split(".")
    reader = PartitionReader(
        path.parent, SCANS, partition, open_partition(path.parent, partition, member).member_digest
    )
    stop = int(reader.read("scan_offsets")[1])
    return reader.read("xyz", 0, stop), reader.read("intensity", 0, stop)


def test_its_features_are_those_of_the_network(
    finished_master: Any, scan: tuple[np.ndarray, np.ndarray]
) -> None:
    plan: Plan = finished_master.plan()
    (planned,) = plan.runs.values()
    weights = load_file(plan.experiment.run_path(planned) / "weights.safetensors")
    model = build(planned.student, planned.seed, channels=len(weights["head.linear.bias"]))
    model.load_state_dict(weights)
    xyz, intensity = scan
    points = ScanPoints(xyz, intensity, np.zeros(len(xyz), np.uint8))
    kept = full_scan(xyz, planned.student.points)
    sample = evaluation_sample(
        points, kept, points=planned.student.points, intensity=plan.experiment.traits["nuscenes"].intensity
    )
    with torch.no_grad():
        clouds = pack([sample.cloud])
        by_hand = model.eval().backbone(clouds, None).numpy()[sample.nearest]
        headed = model(clouds, None).numpy()[sample.nearest]

    run = griddle.open_run(run_folder(finished_master))
    assert (run.name, run.run_id) == ("wi_tiny", planned.id)
    found = run.features(xyz, intensity)
    assert (found.shape, found.dtype) == ((len(xyz), 8), np.float32)
    np.testing.assert_array_equal(found, by_hand)
    np.testing.assert_array_equal(run.features(xyz, intensity, dataset="nuscenes", space="teacher"), headed)
    order = np.random.default_rng(0).permutation(len(xyz))
    assert run.features(xyz[order].tolist(), intensity[order].tolist()).shape == found.shape


def test_what_it_refuses(finished_master: Any, scan: tuple[np.ndarray, np.ndarray]) -> None:
    run = griddle.open_run(run_folder(finished_master))
    xyz, intensity = scan
    for ask, said in (
        (lambda: run.features(xyz[:, :2], intensity), r"\(N, 3\).*not \(\d+, 2\)"),
        (lambda: run.features(xyz, intensity[:-1]), r"intensity \(N,\)"),
        (lambda: run.features(xyz * np.nan, intensity), "finite"),
        (lambda: run.features(xyz, intensity, dataset="kitti"), "learnt from nuscenes, not from 'kitti'"),
        (lambda: run.features(xyz, intensity, space="image"), "'student' or 'teacher', not 'image'"),
        (lambda: run.features(xyz + 500, intensity), "field_of_view"),
    ):
        with pytest.raises(BadInput, match=said):
            ask()
    run.intensity["kitti"] = (0.3, 0.1)
    with pytest.raises(BadInput, match="say of which this scan is"):
        run.features(xyz, intensity)


@pytest.mark.parametrize("gone", ["provenance.json", "config.yaml", "weights.safetensors"])
def test_a_folder_that_is_no_complete_run(gone: str, finished_master: Any, tmp_path: Path) -> None:
    shutil.copytree(run_folder(finished_master), tmp_path / "run")
    (tmp_path / "run" / gone).unlink()
    with pytest.raises(BadInput, match=gone):
        griddle.open_run(tmp_path / "run")


def test_weights_that_are_not_those_that_were_trained(finished_master: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder(finished_master), folder)
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(GriddleError, match=r"SHA-256 is not the one.*\n.*trains this anew"):
        griddle.open_run(folder)
    from cache_schemas.canonical import sha256_file

    (folder / "done.json").unlink()  # as if all this had been so when it was done
    provenance = json.loads((folder / "provenance.json").read_text())
    path.write_bytes(data[:-30])
    (folder / "provenance.json").write_text(json.dumps({**provenance, "weights_sha256": sha256_file(path)}))
    with pytest.raises(GriddleError, match="does not hold the weights"):
        griddle.open_run(folder)


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "done.json"])
def test_a_file_that_was_changed_since_is_named(finished_master: Any, tmp_path: Path, name: str) -> None:
    """One digit of it: other points would go into the student, or another normalisation."""
    folder = tmp_path / "run"
    shutil.copytree(run_folder(finished_master), folder)
    path = folder / name
    changed = re.sub(
        rb"[0-9](?=[^0-9]*$)", lambda digit: b"1" if digit[0] != b"1" else b"2", path.read_bytes()
    )
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(GriddleError) as refusal:
        griddle.open_run(folder)
    files = ["done.json"] if name == "done.json" else ["provenance.json", "done.json"]
    for word in (str(path), "it was changed", f"`rm -f {' '.join(str(folder / file) for file in files)}`"):
        assert word in str(refusal.value)


def test_a_run_of_before_recorded_nothing_and_opens(finished_master: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder(finished_master), folder)
    body = json.loads((folder / "done.json").read_text())
    assert set(body["files"]) == {"config.yaml", "provenance.json", "metrics.csv"}
    del body["files"], body["digest"]
    (folder / "done.json").write_text(json.dumps(body))
    assert griddle.open_run(folder).name == "wi_tiny"
    assert inspect(folder)["as_written"] == "not recorded"


def test_the_threads_of_a_training_are_recorded(finished_master: Any) -> None:
    provenance = json.loads((run_folder(finished_master) / "provenance.json").read_text())
    assert provenance["threads"] >= 1


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "done.json"])
def test_what_the_message_says_mends_it(finished: Any, name: str) -> None:
    """From the last checkpoint, not by a new training: the same weights, and the same curve."""
    folder = run_folder(finished)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / name).write_bytes(before[name].replace(b"e", b"f", 1))
    with pytest.raises(GriddleError) as refusal:
        griddle.open_run(folder)
    (command,) = re.findall("`(rm .*?)`", str(refusal.value))
    subprocess.run(command.split(), check=True)
    finished.griddle("pretrain", "--config", "config/tiny.yaml")
    assert changed_files(folder) == []
    for kept in ("weights.safetensors", "config.yaml", "metrics.csv"):
        assert (folder / kept).read_bytes() == before[kept], kept
    assert griddle.open_run(folder).name == "wi_tiny"


def test_a_changed_run_is_not_taken_for_complete(finished: Any) -> None:
    """Called by hand, without the `rm`, the stage does the same."""
    folder = run_folder(finished)
    config = (folder / "config.yaml").read_bytes()
    (folder / "config.yaml").write_bytes(config.replace(b"0", b"1", 1))
    done = finished.griddle("pretrain", "--config", "config/tiny.yaml")
    assert "config.yaml is not the one that was written" in done.stderr
    assert (folder / "config.yaml").read_bytes() == config
    assert changed_files(folder) == []

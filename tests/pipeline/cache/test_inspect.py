"""`inspect` says of every file of ours what it is and where it came from, and of others that they are not ours."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.manifest import Manifest, open_partition
from pipeline.cache.inspect import inspect, view_manifest
from pipeline.plan.parts import Run
from pipeline.plan.plan import Plan
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.run_folder import finish, save_config
from stages.cli import main


@dataclass(frozen=True)
class Files:
    """A workspace in which the scans and views of a toy dataset lie, and one finished run."""

    plan: Plan
    run: Run
    scans: Manifest
    views: Manifest

    @property
    def run_folder(self) -> Path:
        return self.plan.experiment.run_path(self.run)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Any]) -> Files:
    workspace = make_workspace(tmp_path_factory.mktemp("inspected"))
    with contextlib.chdir(workspace.folder):
        for command in ("index", "scans", "views"):
            main([command, "--config", "config/tiny.yaml"])
    plan = workspace.plan()
    (run,) = plan.runs.values()
    reading = run.readings[0]
    folder = plan.experiment.run_path(run)
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    checkpoint.save(folder / "resume", Checkpoint(run.id, 12, model.state_dict(), optimiser.state_dict()))
    save_config(folder, plan.experiment, run)
    finish(
        folder, run, plan.experiment, model, device=torch.device("cpu"), steps=12, hours=0.5, unreadable=[]
    )
    return Files(
        plan,
        run,
        open_partition(plan.experiment.cache / reading.scans[0], reading.partition, reading.scans[1]),
        open_partition(plan.experiment.cache / reading.views[0], reading.partition, reading.views[1]),
    )


def test_a_manifest(files: Files) -> None:
    facts = inspect(files.views.path)
    assert facts["what"] == "griddle partition"
    assert facts["schema"] == "views/4"
    assert facts["partition"] == files.run.readings[0].partition
    assert facts["valid"] is True
    assert facts["store"] == str(files.views.store)
    on_disk = [path for path in files.views.store.rglob("*") if path.is_file()]
    assert facts["files"] == len(on_disk)
    assert facts["bytes"] == sum(path.stat().st_size for path in on_disk)
    assert facts["counts"]["views"] == 12
    assert facts["identity"]["scan_id"] in files.scans.path.parent.name
    seen = facts["counts"]["seen_points"]
    assert facts["arrays"]["pixel"] == {
        "shape": [seen, 2],
        "dtype": "float32",
        "dims": ["seen", "image_axis"],
        "chunk": [min(4096, seen), 2],
        "shard": [-(-seen // 4096) * min(4096, seen), 2],
        "units": "pixel",
    }
    assert {"time", "host", "versions"} <= set(facts["made"])
    json.dumps(facts)


def test_a_store_and_a_sidecar_are_told_by_their_manifest(files: Files) -> None:
    for manifest in (files.scans, files.views):
        assert inspect(manifest.store) == inspect(manifest.path)
        assert inspect(manifest.sidecar) == inspect(manifest.path)
    assert inspect(files.scans.path)["schema"] == "scans/2"


@pytest.fixture
def copied(files: Files, tmp_path: Path) -> Manifest:
    """A partition that a test may damage."""
    shutil.copytree(files.scans.path.parent, tmp_path / "scans")
    return open_partition(tmp_path / "scans", files.scans.partition, files.scans.member_digest)


def test_a_store_that_no_manifest_names(copied: Manifest) -> None:
    copied.path.unlink()
    for path in (copied.store, copied.sidecar):
        with pytest.raises(BadInput, match="no manifest beside it names it"):
            inspect(path)


@pytest.mark.parametrize("damage", ["file gone", "store gone", "sidecar cut"])
def test_a_partition_that_is_no_longer_valid(damage: str, copied: Manifest) -> None:
    if damage == "file gone":
        (copied.store / "xyz" / "zarr.json").unlink()
    elif damage == "store gone":
        shutil.rmtree(copied.store)
    else:
        copied.sidecar.write_bytes(b"")
    facts = inspect(copied.path)
    assert facts["valid"] is False
    assert facts["partition"] == copied.partition


def test_a_changed_manifest(copied: Manifest) -> None:
    copied.path.write_text(copied.path.read_text().replace('"scans": 2', '"scans": 3'))
    with pytest.raises(DamagedCache, match="does not agree with its own digest"):
        inspect(copied.path)


def test_a_lot(files: Files) -> None:
    (lot,) = {lot.digest: lot for lot in files.plan.lots("views")}.values()
    facts = inspect(files.plan.experiment.lot_path(lot))
    assert facts["what"] == "griddle lot"
    assert (facts["stage"], facts["dataset"], facts["split"]) == ("views", "nuscenes", "train")
    assert facts["store"] == lot.store.folder
    assert [item["name"] for item in facts["partitions"]] == [entry.name for entry in lot.entries]


def test_an_index(files: Files) -> None:
    index = files.plan.experiment.indices["nuscenes"]
    facts = inspect(index.folder / "index.json")
    assert facts["what"] == "griddle index"
    assert (facts["dataset"], facts["version"]) == ("nuscenes", "v1.0-trainval")
    assert facts["partitions"] == len(index.partitions) == 4
    assert (facts["scans"], facts["images"]) == (8, 48)
    assert (facts["broken"], facts["absent"]) == ({}, [])


def test_a_run(files: Files) -> None:
    facts = inspect(files.run_folder)
    assert facts["what"] == "griddle provenance"
    assert facts["complete"] is True
    assert (facts["run_id"], facts["steps"], facts["hours"]) == (files.run.id, 12, 0.5)
    assert facts["identity"]["reads"] == json.loads(json.dumps(files.run.identity["reads"]))
    marker = inspect(files.run_folder / "done.json")
    assert (marker["what"], marker["run_id"]) == ("griddle run", files.run.id)


def test_a_run_that_is_not_complete(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(files.run_folder, folder)
    (folder / "done.json").unlink()
    assert inspect(folder)["complete"] is False
    (folder / "provenance.json").unlink()
    assert inspect(folder) == {
        "what": "griddle run, not complete",
        "checkpoints": ["step-000000012.pt"],
        "lease": False,
    }
    (folder / "lease.json").write_text("{}")
    assert inspect(folder)["lease"] is True


def test_weights(files: Files) -> None:
    facts = inspect(files.run_folder / "weights.safetensors")
    assert (facts["what"], facts["student"]) == ("griddle student", "wi_tiny")
    assert facts["run_id"] == files.run.id
    assert facts["shapes"] == {"weight": [2, 3], "bias": [2]}
    assert facts["tensors"] == 2
    assert facts["provenance"]["run_id"] == files.run.id


def test_weights_of_others(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({}, path)
    with pytest.raises(BadInput, match="not one that Griddle wrote"):
        inspect(path)


def test_weights_that_were_cut_off(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes((files.run_folder / "weights.safetensors").read_bytes()[:50])
    with pytest.raises(BadInput, match="damaged"):
        inspect(path)


def test_a_checkpoint(files: Files, tmp_path: Path) -> None:
    path = files.run_folder / "resume" / "step-000000012.pt"
    assert inspect(path) == {
        "what": "griddle checkpoint",
        "run_id": files.run.id,
        "step": 12,
        "tensors": 2,
        "parameters": 8,
    }
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="no checkpoint of ours, or damaged"):
        inspect(cut)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"hello"),
        ("other.json", b'{"a": 1}'),
        ("list.json", b"[1]"),
        ("number.json", b"3"),
        ("picture.jpg", b"\xff\xd8"),
    ],
)
def test_what_is_none_of_ours(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(BadInput, match="none of Griddle's files") as refusal:
            inspect(path)
        assert str(path) in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_what_is_no_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.json is no valid JSON"):
        inspect(tmp_path / "a.json")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.zarr does not exist"):
        inspect(tmp_path / "nowhere.zarr")


def test_the_view_manifest_is_found_from_all_that_belongs_to_it(files: Files) -> None:
    for path in (files.views.path, files.views.store, files.views.sidecar):
        assert view_manifest(path).path == files.views.path
    with pytest.raises(BadInput, match=r"griddle partition of scans/2, and overlays need a view manifest"):
        view_manifest(files.scans.path)
    with pytest.raises(BadInput, match="overlays need a view manifest"):
        view_manifest(files.run_folder)


def test_a_feature_manifest_tells_the_licence_and_what_storage_cost(finished_master: Any) -> None:
    path = next((finished_master.work / "cache" / "features").glob("*/*/*.json"))
    facts = inspect(path)
    assert facts["licence"] == "apache-2.0"
    assert facts["measured"]["largest_channels"] == 3
    assert 0.999999 < facts["measured"]["cosine"] < 1
    assert 0.999999 < facts["measured"]["cosine_without_largest"] < 1

"""`griddle weights`: the authors' checkpoints become students that are probed, and students become checkpoints of theirs."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors_network import head_output, point_features
from authors_state import their_state
from torch import Tensor

import griddle

Run = Callable[..., tuple[int, str]]
NETWORK = (8, 3, "layer")  # width, depth and norm of the student of config/tiny.yaml


def checkpoint(
    path: Path, head: str = "linear", key: str = "model_point", module: bool = False
) -> dict[str, Tensor]:
    """A file as their trainings write it, with an optimiser's state beside the network."""
    state = their_state(*NETWORK, head, 6, 12)
    named = {f"module.{name}": value for name, value in state.items()} if module else state
    optimiser = {
        "state": {0: {"step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}],
    }
    torch.save({"epoch": 24, key: named, "optim": optimiser, "scheduler": None, "scaler": None}, path)
    return state


@pytest.mark.parametrize(
    ("head", "key", "module", "extra", "out_key", "branch"),
    [
        ("linear", "model_point", False, [], "model_point", "main"),
        ("mlp", "model_points", True, [], "model_point", "scalr_plus"),
        ("classes", "net", True, ["--activation", "gelu"], "net", "scalr_plus"),
    ],
)
def test_there_and_back_through_files(
    full: Any, run: Run, head: str, key: str, module: bool, extra: list[str], out_key: str, branch: str
) -> None:
    state = checkpoint(Path("ckpt_last.pth"), head, key, module)
    code, said = run("weights", "import", "ckpt_last.pth", "--out", "imported/theirs", *extra)
    assert code == 0, said
    assert f"{len(state)} tensors under {key}" in said
    assert "WaffleIron of width 8, depth 3, layer norm" in said
    assert "network: {width: 8, depth: 3, norm: layer, activation: " in said

    options = ["--module"] if module else []
    code, said = run("weights", "export", "imported/theirs", "--out", "back/ckpt_last.pth", *options)
    assert code == 0, said
    assert f"branch {branch}" in said
    back = torch.load("back/ckpt_last.pth", weights_only=True)
    assert list(back) == [out_key]
    prefix = "module." if module else ""
    assert set(back[out_key]) == {f"{prefix}{name}" for name in state}
    for name, value in state.items():
        assert torch.equal(back[out_key][f"{prefix}{name}"], value), name

    code, said = run("inspect", "imported/theirs", "--json")
    facts = json.loads(said)
    assert (code, facts["what"], facts["complete"]) == (0, "griddle provenance", True)
    assert facts["imported"]["file"] == "ckpt_last.pth"
    opened = griddle.open_run("imported/theirs")
    assert (opened.name, opened.student.network.width) == ("theirs", 8)
    xyz, intensity = np.random.default_rng(0).uniform(-5, 5, (60, 3)).astype(np.float32), np.ones(60)
    expected = features_of_the_authors(opened, state, xyz, intensity)  # (60, 8)
    features = opened.features(xyz, intensity, dataset="nuscenes")
    np.testing.assert_allclose(features, expected, rtol=1e-4)
    if head == "classes":
        with pytest.raises(griddle.BadInput, match="no head to a teacher's features"):
            opened.features(xyz, intensity, dataset="nuscenes", space="teacher")
    else:
        features = opened.features(xyz, intensity, dataset="nuscenes", space="teacher")
        np.testing.assert_allclose(features, head_output(state, head, expected), rtol=1e-4)


def features_of_the_authors(
    opened: Any, state: dict[str, Tensor], xyz: np.ndarray, intensity: np.ndarray
) -> Tensor:
    """Features (N, C) in float64 by a network that is written down from the papers, on the file's own tensors."""
    mean, deviation = opened.intensity["nuscenes"]
    scan = np.column_stack([xyz, (intensity - mean) / deviation]).astype(np.float32)
    points, network = opened.student.points, opened.student.network
    sides = np.array(points.field_of_view)
    return point_features(
        *(state, network.depth, network.activation, scan),
        **{"sides": sides, "voxel": points.voxel, "cell": points.cell, "near": points.neighbours},
    )


def test_an_imported_student_is_probed_and_its_probe_exported(full: Any, run: Run) -> None:
    state = checkpoint(Path("model.pth"))
    code, said = run("weights", "import", "model.pth", "--student", "wi_tiny")
    assert code == 0, said
    assert (full.work / "imported" / "model" / "done.json").is_file()

    def add(config: dict[str, Any]) -> None:
        points = config["students"]["wi_tiny"]["points"]
        network = {"width": 8, "depth": 3}
        theirs = {
            "starts_from": str(full.work / "imported" / "model"),
            "datasets": ["nuscenes"],
            "probes": ["q"],
        }
        config["students"]["theirs"] = {**theirs, "points": points, "network": network}
        config["probes"]["q"] = config["probes"]["p"] | {"baselines": ["random"]}

    full.edit(add)
    code, said = run("pretrain", "--only", "theirs")
    assert code == 0, said
    (folder,) = full.work.glob("runs/theirs-*")
    assert griddle.open_run(folder).name == "theirs"
    code, said = run("probe", "--only", "theirs")
    assert code == 0, said
    (probe,) = folder.glob("probe/q-*")
    code, said = run("weights", "export", str(probe), "--out", "ckpt_last.pth")
    assert code == 0, said
    network = torch.load("ckpt_last.pth", weights_only=True)["net"]
    for name, value in state.items():
        if not name.startswith("classif"):
            assert torch.equal(network[name], value), name
    classes = len(json.loads((probe / "metrics.json").read_text())["iou"])
    assert network["classif.1.weight"].shape == (classes, 8, 1)
    assert network["classif.0.running_mean"].shape == (8,)
    code, said = run("report", "--only", "theirs")
    assert code == 0, said
    assert "teacher: weights: " in said

    before = folder.name
    other = {name: value * 2 for name, value in state.items()}
    torch.save({"model_point": other}, "model.pth")
    assert run("weights", "import", "model.pth")[0] == 0
    assert run("pretrain", "--only", "theirs")[0] == 0
    assert len([one for one in full.work.glob("runs/theirs-*") if one.name != before]) == 1

    (full.work / "imported" / "model" / "weights.safetensors").write_bytes(b"flipped")
    for one in full.work.glob("runs/theirs-*/done.json"):
        (one.parent / "provenance.json").unlink()
        one.unlink()
    code, said = run("pretrain", "--only", "theirs")
    assert code == 1
    assert "does not hold the weights that were imported" in said


def imported_ids(full: Any, run: Run, folder: str) -> tuple[str, str]:
    """The id of an import, and of the run of a student that starts from it."""
    provenance = json.loads((Path(folder) / "provenance.json").read_text())

    def add(config: dict[str, Any]) -> None:
        points = config["students"]["wi_tiny"]["points"]
        theirs = {"starts_from": folder, "datasets": ["nuscenes"], "points": points}
        config["students"]["theirs"] = {**theirs, "network": {"width": 8, "depth": 3}}

    full.edit(add)
    (student,) = (name for name in full.plan().runs if name == "theirs")
    return provenance["run_id"], full.plan().runs[student].id


def test_an_imports_id_is_of_its_tensors(full: Any, run: Run) -> None:
    """Neither of the file's name, nor of its format, nor of the order in which metadata happens to be written."""
    state = checkpoint(Path("model.pth"))
    torch.save({"model_points": {f"module.{name}": value for name, value in state.items()}}, "other.pth")
    ids, weights = set(), set()
    for number, name in enumerate(("model.pth", "other.pth", "model.pth", "other.pth")):
        assert run("weights", "import", name, "--out", f"imported/{number}")[0] == 0
        ids.add(imported_ids(full, run, f"imported/{number}"))
        weights.add((Path("imported") / str(number) / "weights.safetensors").read_bytes())
    assert (len(ids), len(weights)) == (1, 1)
    torch.save({"model_point": {name: value * 2 for name, value in state.items()}}, "model.pth")
    assert run("weights", "import", "model.pth", "--out", "imported/0")[0] == 0
    assert imported_ids(full, run, "imported/0") not in ids


def test_an_import_of_before_keeps_its_id(full: Any, run: Run) -> None:
    """The bytes of weights.safetensors were in it."""
    from cache_schemas.canonical import digest, sha256_file

    checkpoint(Path("model.pth"))
    assert run("weights", "import", "model.pth", "--out", "theirs")[0] == 0
    path = Path("theirs") / "provenance.json"
    provenance = json.loads(path.read_text())
    by_bytes = sha256_file(Path("theirs") / "weights.safetensors")
    provenance["identity"]["weights"] = provenance["weights_sha256"] = by_bytes
    provenance["run_id"] = digest(provenance["identity"])
    del provenance["tensors_sha256"]
    path.write_text(json.dumps(provenance))
    (Path("theirs") / "done.json").write_text(json.dumps({"griddle": "griddle run", "kind": "imported"}))
    before = imported_ids(full, run, "theirs")
    assert run("weights", "import", "model.pth", "--out", "theirs")[0] == 0
    assert imported_ids(full, run, "theirs") == before
    assert run("weights", "import", "model.pth", "--out", "anew")[0] == 0
    assert imported_ids(full, run, "anew") != before


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_of_a_tensor_is_not_imported(full: Any, run: Run, seed: int) -> None:
    state = checkpoint(Path("model.pth"))
    data = bytearray(Path("model.pth").read_bytes())
    name = sorted(state)[seed * 7]
    data[data.find(state[name].numpy().tobytes())] ^= 1 << seed
    Path("model.pth").write_bytes(data)
    code, said = run("weights", "import", "model.pth", "--out", "theirs")
    assert code == 2
    assert "fails its checksum" in said
    assert not Path("theirs").exists()


def test_a_config_that_asks_for_another_network_is_told_what_fits(full: Any, run: Run) -> None:
    checkpoint(Path("model.pth"))
    run("weights", "import", "model.pth", "--out", "imported/theirs")

    def add(config: dict[str, Any], **network: Any) -> None:
        theirs = {"starts_from": "imported/theirs", "datasets": ["nuscenes"]}
        config["students"]["theirs"] = {**theirs, "network": {"width": 16, "depth": 3, **network}}

    full.edit(add)
    code, said = run("pretrain", "--only", "theirs")
    assert code == 2
    assert (
        "students.theirs.starts_from: imported/theirs holds another network than the config asks for" in said
    )
    assert "width 8, not 16" in said
    assert "network: {width: 8, depth: 3, norm: layer, activation: relu, head: linear}" in said

    code, said = run("weights", "import", "model.pth", "--student", "theirs")
    assert code == 2
    assert "embed.norm" not in said
    assert "embed.conv1.weight is (8, 5, 1) and should be (16, 5, 1)" in said
    assert "It holds a WaffleIron of width 8, depth 3, layer norm" in said
    assert "network: {width: 8, depth: 3, norm: layer, head: linear}" in said

    full.edit(lambda config: config["students"]["theirs"].update(starts_from="model.pth"))
    code, said = run("pretrain", "--only", "theirs")
    assert code == 2
    assert "griddle weights import model.pth --out imported/model" in said

    full.edit(lambda config: add(config, width=8) or config["students"]["theirs"].update(probes=["c"]))
    full.edit(
        lambda config: config["probes"].update(
            c=config["probes"]["p"] | {"baselines": ["calibrated", "teacher"]}
        )
    )
    code, said = run("probe", "--only", "theirs")
    assert code == 2
    assert (
        "starts from weights, and has no pretraining to compare with: take calibrated, teacher out of" in said
    )


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch it_ran",)


def test_nothing_in_a_file_is_run(full: Any, run: Run) -> None:
    torch.save({"model_point": their_state(*NETWORK, "linear", 6), "optim": Hostile()}, "model.pth")
    torch.save({"model_point": Hostile()}, "old.pth", _use_new_zipfile_serialization=False)
    for name in ("model.pth", "old.pth"):
        code, said = run("weights", "import", name, "--out", "imported/theirs")
        assert code == 2
        assert f"{name} is not only tensors: it asks for posix.system" in said
    assert not Path("it_ran").exists()
    assert not Path("imported").exists()


def test_files_that_are_not_what_they_should_be_are_named(full: Any, run: Run) -> None:
    def refused(name: str, *options: str) -> str:
        code, said = run("weights", "import", name, "--out", "imported/theirs", *options)
        assert code == 2, said
        assert not Path("imported").exists()
        return said

    assert "gone.pth is not there" in refused("gone.pth")
    state = checkpoint(Path("model.pth"), "classes")
    said = refused("model.pth")
    assert "no tensor says its activation" in said
    assert "--activation gelu" in said
    whole = Path("model.pth").read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "cut.pth is no checkpoint of torch, or is cut off" in refused("cut.pth")
    with tarfile.open("model.tar.gz", "w:gz") as archive:
        archive.add("model.pth")
    assert "unpack it (tar -xf model.tar.gz)" in refused("model.tar.gz")
    torch.save({"epoch": 3, "weights": [1]}, "other.pth")
    assert "none is among its keys (epoch, weights)" in refused("other.pth")
    torch.save([1, 2], "list.pth")
    assert "holds a list, and no state dict" in refused("list.pth")
    del state["embed.conv1.bias"]
    state["embed.new_conv2.0.bias"] = torch.zeros(8)
    torch.save(state, "flat.pth")
    said = refused("flat.pth", "--activation", "relu")
    assert "1 tensor(s) missing (embed.conv1.bias)" in said
    assert "1 tensor(s) of no use here (embed.new_conv2.0.bias)" in said


def test_what_cannot_be_exported_is_said(full: Any, run: Run) -> None:
    code, said = run("weights", "export", "work", "--out", "x.pth")
    assert code == 2
    assert "holds no run that is complete" in said
    checkpoint(Path("model.pth"), "mlp")
    assert run("weights", "import", "model.pth", "--out", "theirs", "--activation", "relu")[0] == 0
    (Path("theirs") / "weights.safetensors").write_bytes(b"flipped")
    code, said = run("weights", "export", "theirs", "--out", "x.pth")
    assert code == 1
    assert "does not hold the weights that were imported" in said
    assert not Path("x.pth").exists()

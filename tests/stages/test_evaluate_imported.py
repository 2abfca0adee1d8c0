"""`griddle evaluate` of imported checkpoints: the same classes as the authors' network gives, and what cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors_network import head_output, point_features
from authors_state import their_state
from torch import Tensor
from toy_files import scene_files

from pipeline.datasets.nuscenes.classes import CLASSES as NUSCENES
from pipeline.datasets.pandaset.classes import CLASSES as PANDASET
from pipeline.datasets.semantic_kitti.classes import CLASSES as SEMANTIC_KITTI

Run = Callable[..., tuple[int, str]]
INTENSITY = (18.742355, 22.04632)  # datasets/nuscenes_for_scalr.py
CHALLENGE = [
    0,
    0,
    7,
    7,
    7,
    0,
    7,
    0,
    0,
    1,
    0,
    0,
    8,
    0,
    2,
    3,
    3,
    4,
    5,
    0,
    0,
    6,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    0,
    16,
    0,
]
"""Of each of nuScenes' 32 classes the one of the challenge, 0 ignored: the devkit's table."""
VAL = "scene-0103"
PUBLISHED = np.array([[-64.0, 64.0], [-64.0, 64.0], [-8.0, 8.0]])


def checkpoint(path: str, norm: str = "layer", head: str = "classes", out: int = 16) -> dict[str, Tensor]:
    """Random weights that tell many classes apart."""
    state = their_state(8, 3, norm, head, out, 12)
    generator = torch.Generator().manual_seed(1)
    for name, value in state.items():
        if value.ndim >= 2 and not name.endswith("scale.weight"):
            state[name] = torch.randn(value.shape, generator=generator) * 0.7
        elif name.endswith((".bias", "classif.0.running_mean")):
            state[name] = torch.zeros(value.shape)
    state["embed.norm.running_mean"] = torch.tensor([0.0, 0.0, 0.0, 0.0, 10.0])
    state["embed.norm.running_var"] = torch.tensor([1.0, 100.0, 100.0, 2.0, 50.0])
    torch.save({"net" if head == "classes" else "model_point": state}, path)
    return state


def reference(
    toy: Path, state: dict[str, Tensor], activation: str, **points: Any
) -> dict[str, tuple[Any, Any]]:
    """Of each val scan, by its token, the scores of their network for all points, and the labels of the challenge."""
    found = {}
    data = json.loads((toy / "v1.0-trainval" / "sample_data.json").read_text())
    labels = {
        r["sample_data_token"]: r for r in json.loads((toy / "v1.0-trainval" / "lidarseg.json").read_text())
    }
    for path in scene_files(toy, VAL, "LIDAR_TOP"):
        token = next(one["token"] for one in data if one["filename"].endswith(path.name))
        scan = np.fromfile(path, np.float32).reshape(-1, 5)
        scan[:, 3] = (scan[:, 3] - INTENSITY[0]) / INTENSITY[1]
        scores = head_output(state, "classes", point_features(state, 3, activation, scan, **points))
        raw = np.fromfile(toy / labels[token]["filename"], np.uint8)
        found[token] = (scores, np.array(CHALLENGE)[raw])
    assert len(found) == 2
    return found


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Over classes 1 to 16 that are in labels or guesses; points with label 0 do not count."""
    guess, label = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    guess, label = guess[label > 0], label[label > 0]
    union = {c: ((guess == c) | (label == c)).sum() for c in range(1, 17)}
    return float(np.mean([((guess == c) & (label == c)).sum() / n for c, n in union.items() if n]))


@pytest.mark.parametrize(
    ("norm", "activation", "view"),
    [("layer", "relu", None), ("layer", "gelu", None), ("batch", "relu", [[-20, 20], [-20, 20], [-4, 4]])],
)
def test_the_score_and_the_files_are_those_of_their_network(
    full: Any, run: Run, norm: str, activation: str, view: Any
) -> None:
    state = checkpoint("finetuned.pth", norm)
    assert (
        run("weights", "import", "finetuned.pth", "--out", "elsewhere/theirs", "--activation", activation)[0]
        == 0
    )
    points: dict[str, Any] = {"sides": PUBLISHED, "voxel": 0.1, "cell": 0.5, "near": 16}
    options: list[str] = []
    if view is not None:
        block = {"field_of_view": view, "warmup_epochs": 0}
        full.edit(lambda config: config["students"]["wi_tiny"]["points"].update(cell=1.0, voxel=0.2))
        full.edit(lambda config: config.update(finetunes={"f": block}))
        full.edit(lambda config: config["datasets"].pop("none", None))
        points = {"sides": np.array(view, float), "voxel": 0.2, "cell": 1.0, "near": 4}
        options = ["--as", "students.wi_tiny", "--as", "finetunes.f"]
    # Scans of the val split are in no store yet.
    full.edit(lambda config: config["datasets"]["nuscenes"].pop("partitions"))
    code, said = run(
        "evaluate", "elsewhere/theirs", "--dataset", "nuscenes", "--out", "out", "--json", *options
    )
    assert code == 0, said
    expected = reference(full.folder / "toy" / "tiny", state, activation, **points)
    pairs = []
    for token, (scores, label) in expected.items():
        written = np.fromfile(f"out/lidarseg/val/{token}_lidarseg.bin", np.uint8)
        guess = scores.argmax(1).numpy() + 1
        np.testing.assert_array_equal(written, guess)
        pairs.append((guess, label))
    assert len(np.unique(np.concatenate([guess for guess, _ in pairs]))) >= 5
    metrics = json.loads(said)
    assert metrics["miou"] == pytest.approx(mean_iou(pairs), abs=1e-12)
    assert 0 < metrics["miou"] < 1
    assert metrics["field_of_view"] == points["sides"].tolist()
    name = "nuscenes-val-as-students.wi_tiny-finetunes.f.json" if view else "nuscenes-val.json"
    assert json.loads((Path("elsewhere/theirs/evaluations") / name).read_text()) == metrics


def test_votes_and_the_other_students_of_the_config_are_not_needed(full: Any, run: Run) -> None:
    checkpoint("finetuned.pth", "batch")
    assert run("weights", "import", "finetuned.pth", "--out", "theirs")[0] == 0
    full.edit(
        lambda config: config["datasets"].update(gone={**config["datasets"]["nuscenes"], "root": "gone"})
    )
    full.edit(lambda config: config["students"]["wi_tiny"]["datasets"].append("gone"))
    arguments = ["evaluate", str(Path("theirs").absolute()), "--dataset", "nuscenes", "--split", "train"]
    code, said = run(*arguments, "--votes", "2")
    assert code == 0, said
    assert "nuscenes train: 4 scans" in said
    assert "2 votes" in said
    assert Path("theirs/evaluations/nuscenes-train-2-votes.json").is_file()


def test_what_cannot_be_scored_is_said(full: Any, run: Run) -> None:
    checkpoint("finetuned.pth", "batch")
    checkpoint("pretrained.pth", "batch", "linear", 6)
    for name in ("finetuned", "pretrained"):
        assert run("weights", "import", f"{name}.pth", "--out", f"imported/{name}")[0] == 0

    def kitti(config: dict[str, Any]) -> None:
        config["datasets"]["kitti"] = {"reader": "semantic_kitti", "root": "toy/kitti"}

    full.edit(kitti)
    to = ("--dataset", "nuscenes")
    cases: list[tuple[list[str], str]] = [
        (["imported/finetuned"], "does not say what it was trained on: give --dataset, one of nuscenes, kitti"),
        (["imported/finetuned", "--dataset", "kitti"], "has a head of 16 classes, and dataset kitti has 19"),
        (["imported/finetuned", "--dataset", "waymo"], "the config has no such dataset; it has nuscenes, kitti"),
        (["imported/pretrained", *to], "no classes to score. Probe it: write a student of a config with `starts_from: imported/pretrained`"),
        (["finetuned.pth", *to], "griddle weights import finetuned.pth --out imported/finetuned"),
        (["imported", *to], "is no folder that `griddle weights import` wrote"),
        (["imported/finetuned", *to, "--as", "finetunes.x"], "--as finetunes.x: the config has no such block; it has students.wi_tiny, probes.p"),
        (["imported/finetuned", *to, "--as", "probes.p", "--as", "probes.p"], "give one student, and one probe or finetuning at most"),
        (["work/tiny/runs/x", *to, "--as", "probes.p"], "--as probes.p is for imported weights"),
    ]  # fmt: skip
    for arguments, message in cases:
        code, said = run("evaluate", *arguments)
        assert (code, message in said) == (2, True), said
    weights = Path("imported/finetuned/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    code, said = run("evaluate", "imported/finetuned", *to, "--split", "train")
    assert code == 1
    assert "does not hold the weights that were imported" in said


def test_a_pretrained_run_has_no_classes(full: Any, run: Run) -> None:
    folder = full.work / "runs" / "s-1"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")
    (folder / "done.json").write_text(json.dumps({"kind": "pretrain"}))
    code, said = run("evaluate", str(folder))
    assert code == 2
    assert "is a pretrained student without classes; give a probe of it" in said


def test_classes_stand_in_the_order_of_the_authors() -> None:
    """Their network's channels are the classes of the benchmarks, one less: 0 there is what is ignored."""
    nuscenes = "barrier bicycle bus car construction_vehicle motorcycle pedestrian traffic_cone trailer truck driveable_surface other_flat sidewalk terrain manmade vegetation"
    kitti = "car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist road parking sidewalk other-ground building fence vegetation trunk terrain pole traffic-sign"
    pandaset = "road traffic_sign barrier pedestrian vegetation road_marking sidewalk manmade traffic_cone car motorcycle truck bus bicycle other_vehicle ground driveway"
    assert tuple(nuscenes.split()) == NUSCENES
    assert tuple(kitti.split()) == SEMANTIC_KITTI
    assert tuple(pandaset.split()) == PANDASET


def test_intensities_that_nobody_published_are_measured_first(full: Any, run: Run) -> None:
    checkpoint("finetuned.pth", "batch")
    assert run("weights", "import", "finetuned.pth", "--out", "theirs")[0] == 0
    Path("mine.py").write_text(
        "import griddle\nfrom dataclasses import replace\nlike = griddle.reader_named('nuscenes')\n"
        "class Reader(type(like)):\n"
        "    traits = replace(like.traits, reader='mine', intensity=None)\n"
    )
    full.edit(lambda config: config["datasets"]["nuscenes"].update(reader="mine.py:Reader"))
    full.edit(lambda config: config["datasets"]["nuscenes"].pop("partitions"))
    code, said = run("evaluate", "theirs", "--dataset", "nuscenes", "--json")
    assert code == 0, said
    (stats,) = full.work.glob("stats/*.json")
    train = [
        np.fromfile(path, np.float32).reshape(-1, 5)[:, 3]
        for scene in ("scene-0061", "scene-0655", "scene-0757")
        for path in scene_files(full.folder / "toy" / "tiny", scene, "LIDAR_TOP")
    ]
    assert json.loads(stats.read_bytes())["mean"] == pytest.approx(
        float(np.concatenate(train).mean()), rel=1e-5
    )

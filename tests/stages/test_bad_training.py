"""Bad input to trainings, as a user meets it on the command line: what lacks or does not fit, where, and what mends it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_files import scene_labels

Run = Callable[..., tuple[int, str]]
BLOCK = {"epochs": 1, "batch": 2, "warmup_epochs": 0, "evaluate": "train"}


@pytest.fixture
def trained(full: Any, run: Run) -> Path:
    """A pretrained student's folder; it is to be probed and finetuned."""

    def change(config: dict[str, Any]) -> None:
        config["probes"] = {"p": BLOCK}
        config["finetunes"] = {"f": BLOCK}
        config["students"]["wi_tiny"] |= {"probes": ["p"], "finetunes": ["f"]}

    full.edit(change)
    code, said = run("pretrain")
    assert code == 0, said
    (folder,) = full.work.glob("runs/wi_tiny-*")
    return folder


def forget(cache: Path, stage: str, *partitions: str) -> None:
    """Remove manifests, as somebody does who tidies up a scratch disk."""
    for partition in partitions:
        found = list(cache.glob(f"{stage}/**/{partition}.*.json"))
        assert found
        for path in found:
            path.unlink()


def test_a_cache_that_lacks_partitions_names_them_and_the_commands(full: Any, run: Run) -> None:
    cache = full.work / "cache"
    forget(cache, "features", "scene-0655")
    code, said = run("pretrain")
    assert code == 2
    (folder,) = (path.relative_to(cache) for path in cache.glob("features/*/nuscenes"))
    assert "pretraining wi_tiny: the cache in work/tiny/cache lacks 1 partition(s) that it reads" in said
    assert f"1 of 2 of features of nuscenes ({folder}): scene-0655\n" in said
    assert "Run `griddle features` with the same config" in said
    forget(cache, "views", "scene-0061", "scene-0655")
    code, said = run("pretrain")
    assert code == 2
    assert "lacks 3 partition(s)" in said
    assert "2 of 2 of views of nuscenes" in said
    assert ": scene-0061, scene-0655\n" in said
    assert "Run `griddle views`, then `griddle features`" in said
    assert not list(full.work.glob("runs/*/config.yaml")), "nothing was begun"
    for command in ("views", "features"):
        assert run(command)[0] == 0
    assert run("pretrain")[0] == 0


def test_no_cache_at_all(full: Any, run: Run) -> None:
    (full.work / "cache").rename(full.work / "elsewhere")
    code, said = run("pretrain")
    assert code == 2
    assert "lacks 6 partition(s)" in said
    assert "`griddle scans`, then `griddle views`, then `griddle features`" in said
    code, said = run("views")
    assert code == 2
    assert "views of nuscenes train: the cache in work/tiny/cache lacks 2 partition(s) that it reads" in said
    assert "Run `griddle scans` with the same config" in said


def test_a_long_list_is_cut(full: Any, run: Run) -> None:
    full.edit(lambda config: config["datasets"]["nuscenes"].pop("partitions"))
    full.edit(lambda config: config["students"]["wi_tiny"].update(splits=["train", "val"], probes=[]))
    (full.work / "cache").rename(full.work / "elsewhere")
    code, said = run("pretrain")
    assert code == 2
    assert "4 of 4 of scans of nuscenes" in said
    assert said.count(", ...\n") == 3


@pytest.mark.parametrize(("command", "key"), [("probe", "probes.p"), ("finetune", "finetunes.f")])
def test_labels_and_full_scans_that_lack(full: Any, run: Run, trained: Path, command: str, key: str) -> None:
    forget(full.work / "cache", "scans/*/labels", "scene-0655")
    code, said = run(command)
    assert code == 2
    assert f"{key}: the cache in work/tiny/cache lacks " in said
    assert "1 of 2 of labels of nuscenes" in said
    assert "`griddle scans --labels`" in said
    assert not list(trained.glob(f"{command}/*/config.yaml"))


@pytest.mark.parametrize("command", ["probe", "finetune"])
def test_weights_that_are_not_what_was_trained(full: Any, run: Run, trained: Path, command: str) -> None:
    assert run("views", "--full-scans")[0] == 0
    path = trained / "weights.safetensors"
    whole = path.read_bytes()
    wide = {n: torch.cat([v, v]) if v.ndim else v for n, v in load_file(path).items()}
    save_file(wide, "wide.safetensors")
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    cases = [
        (whole[:1000], "header"),
        (whole[:-1], "not fully covered"),
        (pickle.dumps(Hostile()), "header"),
        (bytes(flipped), "their SHA-256 is not the one in provenance.json"),
        (Path("wide.safetensors").read_bytes(), "embedding.norm.weight is (10,) and should be (5,)"),
    ]
    for data, why in cases:
        path.write_bytes(data)
        code, said = run(command)
        assert code == 1, said
        assert f"{path.relative_to(full.folder)} does not hold the weights that were trained" in said
        assert why in said
        assert said.count("\n") < 12
        assert (
            f"Delete {path.parent.relative_to(full.folder)} and run the same snakemake command again" in said
        )
    assert not Path("it_ran").exists()
    path.write_bytes(whole)
    provenance = json.loads((trained / "provenance.json").read_bytes())
    (trained / "provenance.json").write_text(json.dumps(provenance | {"run_id": "0123456789"}))
    code, said = run(command)
    assert code == 1
    assert "provenance.json is not the one that was written when this was done" in said
    facts = json.loads((trained / "done.json").read_bytes())
    (trained / "done.json").write_text(json.dumps({"griddle": facts["griddle"], "kind": facts["kind"]}))
    code, said = run(command)  # as of before, when nothing was recorded
    assert code == 1
    assert "provenance.json is about run 0123456789, not " in said


class Hostile:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("it_ran"),)


@pytest.mark.parametrize(("command", "key"), [("probe", "probes.p"), ("finetune", "finetunes.f")])
def test_labels_that_are_all_ignored(full: Any, run: Run, trained: Path, command: str, key: str) -> None:
    for scene in ("scene-0061", "scene-0655"):
        for path in scene_labels(full.folder / "toy" / "tiny", scene):
            np.zeros_like(np.fromfile(path, np.uint8)).tofile(path)  # noise: no class of the benchmark
    forget(full.work / "cache", "scans/*/labels", "scene-0061", "scene-0655")
    for arguments in (["scans", "--labels"], ["views", "--full-scans"]):
        assert run(*arguments)[0] == 0
    code, said = run(command)
    assert code == 2
    assert f"{key}: none of 10,105 points in the train split, which it learns from, has a class" in said
    assert "Look at the label files of nuscenes" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 9}, "students.wi_tiny.pretrain.batch is 9, but its datasets have only 4 scan(s) with images"),
        ({"probe": {"batch": 9}}, "probes.p.batch is 9, but the train split has only 4 scan(s) with labels"),
        ({"probe": {"every": 1000}}, "probes.p.batch is 2, but the train split has only 1 scan(s) with labels that it learns from"),
        ({"probe": {"every": 0}}, "probes.p.every"),
    ],
)  # fmt: skip
def test_batches_and_fractions_that_leave_too_little(
    full: Any, run: Run, change: dict[str, Any], message: str
) -> None:
    """All of it is known before anything is computed."""

    def edit(config: dict[str, Any]) -> None:
        config["probes"] = {"p": BLOCK | change.get("probe", {})}
        config["students"]["wi_tiny"]["probes"] = ["p"]
        config["students"]["wi_tiny"]["pretrain"]["batch"] = change.get("batch", 1)

    full.edit(edit)
    for command in ("plan", "pretrain"):
        code, said = run(command)
        assert code == 2
        assert message in said

"""A teacher's file is in its id with its tensors: not with its name, place, format or the order of its header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_index import DATASET, entry, write_index
from safetensors.torch import save_file

from cache_schemas.errors import BadInput
from cache_schemas.places import WEIGHTS_LOCK
from pipeline.config.model import Config, Teacher
from pipeline.plan.identity import teacher_id, teacher_identity
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.plan.teacher_weights import KNOWN

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.arange(3).half()}


def plan_of(workdir: Path, weights: Path) -> Plan:
    write_index(workdir, "toy", [entry("scene-0001")])
    config = {
        "datasets": {"toy": DATASET},
        "teachers": {"t": {"model": "vit_tiny_patch16_224", "weights": str(weights)}},
        "students": {"s": {"datasets": ["toy"], "teacher": "t"}},
    }
    return plan_experiment(Config.model_validate(config), workdir)


def id_of(workdir: Path, weights: Path) -> str:
    plan = plan_of(workdir, weights)
    (teacher,) = plan.experiment.teacher_ids(plan.experiment.students["s"])
    assert {lot.store.id for lot in plan.lots("features")} == {teacher}
    return teacher


def id_of_before(weights: Path) -> str:
    return teacher_id(teacher_identity(Teacher(model="vit_tiny_patch16_224", weights=str(weights))))


def test_the_same_tensors_are_the_same_teacher(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for number in range(6):
        save_file(STATE, tmp_path / f"{number}.safetensors", {"b": "1", "c": "2", "a": "3"})
    torch.save(STATE, tmp_path / "elsewhere" / "w.pth")
    torch.save({"teacher": {f"module.{k}": v for k, v in STATE.items()}}, tmp_path / "full.pth")
    files = [*tmp_path.glob("*.safetensors"), tmp_path / "elsewhere" / "w.pth", tmp_path / "full.pth"]
    assert len({path.read_bytes() for path in files}) > 3
    ids = {id_of(tmp_path / "work", path) for path in files}
    assert len(ids) == 1
    save_file({**STATE, "a.weight": STATE["a.weight"] + 1}, tmp_path / "0.safetensors")
    assert id_of(tmp_path / "work", tmp_path / "0.safetensors") not in ids, (
        "other tensors under the same name"
    )


@pytest.mark.parametrize("trace", ["features", "lock", "lot", "run"])
def test_a_teacher_that_was_used_by_its_files_name_keeps_its_id(tmp_path: Path, trace: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    work, before = tmp_path / "work", id_of_before(path)
    assert id_of(work, path) != before
    made: dict[str, tuple[Path, Any]] = {
        "features": (work / "cache" / "features" / before / "toy" / "x.json", {}),
        "lock": (work / "cache" / WEIGHTS_LOCK, {before: "0" * 64}),
        "lot": (work / "lots" / "features" / "0.json", {"store": f"features/{before}/toy"}),
        "run": (work / "runs" / "s-0" / "provenance.json", {"identity": {"teachers": [before]}}),
    }
    file, body = made[trace]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body))
    assert id_of(work, path) == before


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, work = tmp_path / "w.safetensors", tmp_path / "work"
    save_file(STATE, path)
    first = id_of(work, path)
    (known,) = json.loads((work / KNOWN).read_text())["files"].values()
    assert len(known["tensors_sha256"]) == 64
    import pipeline.plan.teacher_weights as teacher_weights

    teacher_weights._digest.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(teacher_weights, "_read", None)
        assert id_of(work, path) == first
    save_file({**STATE, "b.bias": STATE["b.bias"] + 1}, path)
    os.utime(path, ns=(1, 1))
    second = id_of(work, path)
    assert second != first
    whole = (work / KNOWN).read_bytes()
    for damage in (whole.replace(b'sha256": "', b'sha256": "0'), b"", b"[]", b'{"x": 1}'):
        (work / KNOWN).write_bytes(damage)
        teacher_weights._digest.cache_clear()
        assert id_of(work, path) == second


def test_a_damaged_file_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    data[data.find(STATE["a.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"w\.pth is damaged: .*fails its checksum"):
        plan_of(tmp_path / "work", path).lots("features")

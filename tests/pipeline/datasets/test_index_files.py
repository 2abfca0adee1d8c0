"""One digit of an index is never believed: a stage, verify and inspect name it, and `griddle index --force` mends it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache_schemas.canonical import sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from pipeline.cache.inspect import inspect
from pipeline.datasets.index import make_index, read_index, sound_index
from pipeline.datasets.index_files import read_sealed, read_summary


@pytest.fixture
def indexed(filled: Any) -> Path:
    """The folder of an index, beside a filled cache."""
    return filled.workspace.work / "index" / "nuscenes"


def change_a_focal_length(path: Path) -> None:
    """One digit of fx."""
    text = path.read_text()
    changed = re.sub(r'("intrinsics": \[\s*)(\d)', lambda m: m[1] + str((int(m[2]) + 1) % 10), text, count=1)
    assert changed != text
    path.write_text(changed)


def record_of(folder: Path, scene: str) -> Path:
    (path,) = folder.glob(f"{scene}.*.json")
    return path


def test_a_changed_record(filled: Any, indexed: Path, capsys: Any) -> None:
    path = record_of(indexed, "scene-0061")
    whole = path.read_bytes()
    change_a_focal_length(path)
    for manifest in (filled.cache / "views").glob("*/scene-0061.*.json"):
        manifest.unlink()
    for lot in (filled.workspace.work / "lots" / "views").glob("*.json"):
        lot.unlink()
    capsys.readouterr()
    assert filled.griddle("views") == 2
    said = capsys.readouterr().err
    assert str(path.name) in said
    assert "griddle index --force" in said

    assert filled.griddle("cache", "verify") == 1
    said = capsys.readouterr().out
    assert f"{path.name}: is not the record that its name says" in said
    assert "griddle index --force" in said
    assert inspect(path)["changed"]
    assert [line for line in inspect(indexed)["changed"] if path.name in line]

    assert filled.griddle("index", "--force") == 0
    assert path.read_bytes() == whole
    assert filled.griddle("views") == 0
    assert filled.griddle("cache", "verify") == 0


@pytest.mark.parametrize("name", ["scene-0061.*.json", "scan-names.*.json", "index.json"])
@pytest.mark.parametrize("damage", ["changed", "torn", "emptied", "gone"])
def test_repair_makes_it_anew(filled: Any, indexed: Path, name: str, damage: str) -> None:
    (path,) = indexed.glob(name)
    before = {
        file.name: file.read_bytes() for file in indexed.glob("s*")
    }  # index.json says where the tree lies
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = re.sub(rb"scene-0061", b"scene-0062", data)
        path.write_bytes({"changed": changed, "torn": data[:-40], "emptied": b""}[damage])
    if (
        name == "index.json"
    ):  # without it there is no plan: snakemake and `griddle index` make it anew by themselves
        assert sound_index(filled.workspace.work, "nuscenes") is None
        assert filled.griddle("index") == 0
    else:
        code = filled.griddle("cache", "verify")
        if (name, damage) != ("scan-names.*.json", "gone"):  # the records hold the names, too
            assert code == 1
            assert filled.griddle("cache", "verify", "--repair") == 0
    assert filled.griddle("cache", "verify") == 0
    after = {file.name: file.read_bytes() for file in indexed.glob("s*")}
    if (name, damage) != ("scan-names.*.json", "gone"):
        assert after == before


def test_every_flipped_bit_of_a_record_is_refused(indexed: Path) -> None:
    path = record_of(indexed, "scene-0655")
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(data)
        try:
            value = read_sealed(path)
        except BadInput:
            continue
        assert value == json.loads(whole), "white space alone"


def test_an_index_of_before_has_no_digest_and_is_read(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    index = make()
    path = index.folder / "index.json"
    body = json.loads(path.read_text())
    del body["digest"]
    path.write_text(json.dumps(body))
    known = read_index(workspace.work, "nuscenes")
    assert known is not None
    assert known.body == index.body
    assert read_summary(path) == body


@pytest.fixture
def make(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    from pipeline.config.load import load_config

    monkeypatch.chdir(workspace.folder)
    dataset = load_config(workspace.config_path).datasets["nuscenes"]
    return lambda: make_index(workspace.work, "nuscenes", dataset)[0]


def test_a_changed_measurement_of_intensities(filled: Any, capsys: Any) -> None:
    """Where nobody published them; an older file has no digest, and is read."""
    path = filled.workspace.work / "stats" / "nuscenes-0123456789.json"
    for body, code in (
        (sealed({"griddle": "griddle intensity", "mean": 1.5}), 0),
        ({"griddle": "griddle intensity", "mean": 1.5}, 0),
        (sealed({"griddle": "griddle intensity", "mean": 1.5}) | {"mean": 1.6}, 1),
    ):
        write_json(path, body)
        assert filled.griddle("cache", "verify") == code
    assert f"{path.name}: does not agree with its own digest" in capsys.readouterr().out
    assert filled.griddle("cache", "verify", "--repair") == 0
    assert not path.exists()

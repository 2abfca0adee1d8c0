"""A student of two teachers: each from its own cache, which another student may have filled."""

from __future__ import annotations

import csv
import json
import math
from typing import Any

import pytest
from safetensors import safe_open


@pytest.mark.whole
def test_two_teachers_one_of_them_cached_already(finished: Any) -> None:
    def both(config: dict[str, Any]) -> None:
        config["teachers"]["keys"] = {
            "model": "vit_tiny_patch16_224",
            "layer": "last keys",
            "weights": "untrained",
            "seed": 1,
            "image_size": [32, 64],
            "storage": "int8",
        }
        config["students"]["of_both"] = {**config["students"]["wi_tiny"], "teacher": ["tiny", "keys"]}

    stores = [
        path
        for name in ("scans", "views", "features")
        for path in (finished.work / "cache" / name).rglob("*")
    ]
    cached = {path: path.stat().st_mtime_ns for path in stores if path.is_file()}
    finished.edit(both)
    dry = finished.snakemake("pretrain_all", "-n").stdout
    assert [
        line.split() for line in dry.splitlines() if line.startswith(("features ", "pretrain ", "scans "))
    ][:2] == [
        ["features", "1"],
        ["pretrain", "1"],
    ]
    finished.snakemake("pretrain_all")
    assert {path: path.stat().st_mtime_ns for path in cached} == cached

    (keys,) = (
        path
        for path in (finished.work / "cache" / "features").glob("*/*/*.json")
        if json.loads(path.read_text())["identity"]["layer"] == "last keys"
    )
    measured = json.loads(keys.read_text())["measured"]
    assert 0.999 < measured["cosine_without_largest"] < 0.99999  # eight bits cost something

    (run,) = (finished.work / "runs").glob("of_both-*")
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        whole, parts = float(row["loss"]), [float(row["loss_tiny"]), float(row["loss_keys"])]
        assert max(parts) < whole < math.sqrt(2) * 2
    with safe_open(run / "weights.safetensors", "pt") as weights:
        assert weights.get_slice("head.linear_out.bias").get_shape() == [192 + 192]
        assert weights.get_slice("head.norm.bias").get_shape() == [2 * 8]
    assert "keys" in (run / "config.yaml").read_text()

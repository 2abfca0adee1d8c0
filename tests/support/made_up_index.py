"""Indices of datasets that do not exist. A plan needs an index and no dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache_schemas.publish import write_json
from pipeline.datasets.index import FORMAT, KIND
from pipeline.plan.parts import STAGES

DATASET = {"reader": "nuscenes", "root": "nowhere", "version": "v1.0-trainval"}
"""The block of a config whose index `write_index` writes."""
CUE = {
    "root": str(Path("nowhere").resolve()),
    "version": DATASET["version"],
    "reader": [DATASET["reader"], 1],
}


def entry(
    name: str,
    split: str = "train",
    *,
    member: str = "m",
    labels: bool = True,
    scans: int = 40,
    problem: str | None = None,
) -> dict[str, Any]:
    """What an index says of a partition of six cameras; `member` stands for what its files are."""
    members: dict[str, str | None] = {stage: f"{member}-{name}-{stage}" for stage in STAGES}
    if not labels:
        members["labels"] = None
    return {
        **{"name": name, "split": split, "file": f"{name}.json", "members": members, "problem": problem},
        **{"scans": scans, "images": 6 * scans, "points": 50},
    }


def write_index(workdir: Path, dataset: str, entries: list[dict[str, Any]]) -> None:
    """An index of these partitions, where a plan of the workdir looks for it."""
    index = {"griddle": KIND, "format": FORMAT, "dataset": dataset, "cue": CUE, "partitions": entries}
    path = workdir / "index" / dataset / "index.json"
    write_json(path, {**index, "absent": [], "left_out": []})

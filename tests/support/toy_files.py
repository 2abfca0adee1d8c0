"""Which files of a toy tree in nuScenes format belong to a scene, as its tables name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def scene_files(toy: Path, scene: str, channel: str) -> list[Path]:
    """The recordings of a scene from one sensor."""
    return [toy / row["filename"] for row in _rows(toy, scene) if f"/{channel}/" in row["filename"]]


def scene_labels(toy: Path, scene: str) -> list[Path]:
    """The label files of a scene, in the order of its lidar files."""
    labels = {row["sample_data_token"]: row["filename"] for row in _table(toy, "lidarseg")}
    return [toy / labels[row["token"]] for row in _rows(toy, scene) if row["token"] in labels]


def _rows(toy: Path, scene: str) -> list[dict[str, Any]]:
    token = next(row["token"] for row in _table(toy, "scene") if row["name"] == scene)
    samples = {row["token"] for row in _table(toy, "sample") if row["scene_token"] == token}
    return [row for row in _table(toy, "sample_data") if row["sample_token"] in samples]


def _table(toy: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((toy / "v1.0-trainval" / f"{name}.json").read_text())

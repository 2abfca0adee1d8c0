"""A tree in PandaSet's layout, of a few random points and grey images, for tests to break."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

CAMERAS = (
    "back_camera",
    "front_camera",
    "front_left_camera",
    "front_right_camera",
    "left_camera",
    "right_camera",
)
SAN_FRANCISCO, EL_CAMINO = 37.77, 37.53
RECORDED = 8
"""Frames of which the lists of poses tell."""
POINTS = 30


def write_sequence(
    root: Path,
    name: str = "001",
    frames: Sequence[int] = (0, 1, 5),
    *,
    latitude: float = SAN_FRANCISCO,
    labels: bool = True,
    suffix: str = ".pkl.gz",
) -> Path:
    """One sequence; every third point is of PandarGT."""
    folder = root / name
    random = np.random.default_rng(int(name))
    poses = [
        {
            "position": {"x": 3.0 * frame, "y": 0.5 * frame, "z": 0.1},
            "heading": {
                "w": float(np.cos(0.1 * frame)),
                "x": 0.0,
                "y": 0.0,
                "z": float(np.sin(0.1 * frame)),
            },
        }
        for frame in range(RECORDED)
    ]
    _json(folder / "meta" / "gps.json", [{"lat": latitude, "long": -122.4}] * RECORDED)
    _json(folder / "lidar" / "poses.json", poses)
    for camera in CAMERAS:
        _json(folder / "camera" / camera / "poses.json", poses)
        _json(
            folder / "camera" / camera / "intrinsics.json", {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 18.0}
        )
        for frame in frames:
            Image.new("RGB", (64, 36), (frame, 0, 0)).save(folder / "camera" / camera / f"{frame:02d}.jpg")
    for frame in frames:
        write_table(folder / "lidar" / f"{frame:02d}{suffix}", lidar_table(random))
        if labels:
            table = pd.DataFrame({"class": np.arange(POINTS) % 43})
            write_table(folder / "annotations" / "semseg" / f"{frame:02d}{suffix}", table)
    return folder


def lidar_table(random: np.random.Generator) -> pd.DataFrame:
    table = pd.DataFrame({axis: random.normal(0, 10, POINTS) for axis in "xyz"})
    table["i"] = random.integers(0, 256, POINTS).astype(np.float64)
    table["t"] = 1.5e9
    table["d"] = np.arange(POINTS) % 3 // 2
    return table


def write_table(path: Path, table: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.to_pickle(table, path)


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

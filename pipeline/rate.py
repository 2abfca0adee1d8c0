"""How many images a second a teacher was run on, as the manifests of its features record it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median

LATEST = 16
"""Manifests that are looked at."""


@dataclass(frozen=True)
class Rate:
    """Images a second, and in words where the number comes from."""

    images_per_second: float
    source: str


def recorded_rate(teacher: Path) -> Rate | None:
    """The median rate of a teacher's latest partitions, of any dataset; None where none is recorded.

    Args:
        teacher: its folder in the cache, which holds one folder for each dataset.
    """
    if not teacher.is_dir():
        return None
    manifests = [
        entry
        for folder in os.scandir(teacher)
        if folder.is_dir()
        for entry in os.scandir(folder)
        if entry.name.endswith(".json")
    ]
    latest = sorted(manifests, key=lambda entry: entry.stat().st_mtime)[-LATEST:]
    rates = [rate for entry in latest if (rate := _rate(Path(entry.path)))]
    if not rates:
        return None
    return Rate(median(rates), f"measured, median of {len(rates)} partition(s)")


def _rate(manifest: Path) -> float | None:
    """What one manifest records; None where it does not, or where the manifest is damaged or just went."""
    try:
        rate = json.loads(manifest.read_bytes())["made"].get("images_per_second")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None

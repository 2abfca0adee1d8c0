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
    """Images a second.

    Attributes:
        device: that it was measured on, as torch names it; None where the rate was given.
        manifests: whose median it is.
    """

    images_per_second: float
    device: str | None = None
    manifests: int = 0

    @property
    def source(self) -> str:
        """Where the number comes from, in words."""
        return f"measured on {self.device}, {self.manifests} partition(s)" if self.manifests else "given"


def recorded_rate(teacher: Path) -> Rate | None:
    """The median rate of a teacher's latest partitions, of any dataset; None where none is recorded.

    Only those of the device that was used last count: a CPU's rate says nothing about a GPU's.

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
        if entry.name.endswith(".json") and entry.is_file()
    ]
    latest = sorted(manifests, key=lambda entry: (entry.stat().st_mtime_ns, entry.name))[-LATEST:]
    recorded = [rate for entry in latest if (rate := _rate(Path(entry.path)))]
    if not recorded:
        return None
    device = recorded[-1][0]
    rates = [rate for measured_on, rate in recorded if measured_on == device]
    return Rate(median(rates), device, len(rates))


def _rate(manifest: Path) -> tuple[str, float] | None:
    """Device and rate of one manifest; None where it records none, or is damaged."""
    try:
        made = json.loads(manifest.read_bytes())["made"]
        return str(made.get("device", "an unknown device")), float(made["images_per_second"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

"""What a plan would compute, read and write, before anything is: partitions, images, bytes, free disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.features import GROUP
from pipeline.config.model import Points, Teacher
from pipeline.plan import STAGES, Lot, Plan
from pipeline.teachers.names import channels, patch_size

POINT_BYTES = 20
"""Of a lidar file; the stores keep 16 of them. Files of other datasets hold 16: close enough for an estimate."""
SEEN, VOXELS = 0.65, 0.5
"""Shares of a scan's points that cameras see, and that are left as voxels in camera views (measured on nuScenes)."""


@dataclass
class StageEstimate:
    """One stage's work.

    Attributes:
        there: partitions whose manifest is there already.
        to_compute: partitions that are not.
        images: that the teacher will be run on.
        bytes: that will be written, about; None where the teacher's name does not say its channels.
    """

    stage: str
    lots: int
    there: int
    to_compute: int
    scans: int
    images: int
    bytes: int | None


def estimate(plan: Plan) -> dict[str, Any]:
    """All stages, the runs, and the free space where the cache lies."""
    stages = [_stage(plan, stage) for stage in STAGES if plan.lots(stage)]
    return {
        "stages": [asdict(stage) for stage in stages],
        "runs": {
            name: {"folder": str(plan.run_path(run)), "done": (plan.run_path(run) / "done.json").exists()}
            for name, run in plan.runs.items()
        },
        "probes": {folder: (plan.workdir / folder / "done.json").exists() for folder in plan.probe_runs},
        "cache": str(plan.cache),
        "free_bytes": shutil.disk_usage(_existing(plan.cache)).free,
    }


def _stage(plan: Plan, stage: str) -> StageEstimate:
    found = StageEstimate(stage, 0, 0, 0, 0, 0, 0)
    for lot in plan.lots(stage):
        found.lots += 1
        folder = plan.cache / lot.store.folder
        names = set(os.listdir(folder)) if folder.is_dir() else set()
        for entry, member in lot.members:
            if f"{entry.name}.{member}.json" in names:
                found.there += 1
                continue
            found.to_compute += 1
            found.scans += entry.scans
            found.images += entry.images if stage == "features" else 0
            size = _bytes(lot, entry.lidar_bytes // POINT_BYTES, entry.images)
            found.bytes = None if size is None or found.bytes is None else found.bytes + size
    return found


def _bytes(lot: Lot, points: int, images: int) -> int | None:
    source = lot.store.source
    if isinstance(source, Teacher):
        patch, width = patch_size(source.model), channels(source.model, source.layer)
        if patch is None or width is None:
            return None
        patches = (source.image_size[0] // patch) * (source.image_size[1] // patch)
        scales = 2 * -(-width // GROUP) if source.storage == "int8" else 0
        return images * patches * (width * np.dtype(source.storage).itemsize + scales)
    if isinstance(source, Points):
        kept = VOXELS * points * source.variants * (4 + 4 * (source.neighbours + source.spares))
        return int(kept + SEEN * points * 16)
    return points * (1 if lot.store.stage == "labels" else 16)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent if path.parent != path else Path(".")
    return path

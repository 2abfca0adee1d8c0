"""The real pictures of the packed folder as a partition of a dataset, for the features stage, and teachers for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.packed import Packed
from pipeline.config.model import Teacher
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.identity import teacher_id, teacher_identity
from pipeline.plan.parts import Store
from pipeline.teachers.loaded import LoadedTeacher, load_teacher

MODELS = {
    "S": "vit_small_patch14_dinov2.lvd142m",
    "B": "vit_base_patch14_dinov2.lvd142m",
    "L": "vit_large_patch14_dinov2.lvd142m",
}
SIZES = ((224, 448), (448, 896))
"""The published ones."""


def partition_of(packed: Packed, name: str, images: int) -> PartitionRecord:
    """So many of the pictures, in turn, as one partition; they lie below `packed.recordings`."""
    found = packed.images
    taken = tuple(found[number % len(found)] for number in range(images))
    return PartitionRecord(name, "train", (replace(packed.scans[0], images=taken),))


def store_of(teacher: Teacher) -> Store:
    """A feature store for a teacher's patch grids of them."""
    identity = teacher_identity(teacher)
    return Store("features", "pictures", teacher_id(identity), identity, teacher)


def teacher_of(
    model: str, size: tuple[int, int], device: torch.device, weights: Path | None = None, **choices: Any
) -> LoadedTeacher:
    """A teacher, untrained unless there are weights. Untrained ones are drawn on the device, which is faster, and other
    numbers than the package's own."""
    config = Teacher.model_validate(
        {"model": model, "weights": str(weights or "untrained"), "image_size": size, **choices}
    )
    if weights is not None:
        return load_teacher(config, device)
    with device:
        return load_teacher(config, device)


def with_choices(teacher: LoadedTeacher, **choices: Any) -> LoadedTeacher:
    """The same network under another config: images in a batch, precision, decoding, storage."""
    return replace(teacher, config=teacher.config.model_copy(update=choices))

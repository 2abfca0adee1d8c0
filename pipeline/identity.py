"""Ids: content and choice, never time. Each is the digest of an explicit table of what determines the bytes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.features import features_schema
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS
from pipeline.config.model import Dataset, Points, Student, Teacher
from pipeline.datasets.reader import Traits
from pipeline.teachers.names import short_name

VIEWS_ALGORITHM = 1
"""Raised by hand when the meaning of a view partition's bytes changes."""
FEATURES_ALGORITHM = 1
"""Raised by hand when the meaning of a feature partition's bytes changes."""
PRETRAIN_ALGORITHM = 1
"""Raised by hand when the same config would train another student."""


def scan_identity(name: str, dataset: Dataset, traits: Traits) -> dict[str, Any]:
    return _declared(
        SCANS,
        dataset=name,
        reader=traits.reader,
        reader_version=traits.reader_version,
        dataset_version=dataset.version,
        frame=traits.frame,
    )


def label_identity(traits: Traits) -> dict[str, Any]:
    return _declared(LABELS, label_map=traits.reader, label_map_version=traits.label_map_version)


def view_identity(scan_id: str, dataset: Dataset, points: Points, traits: Traits) -> dict[str, Any]:
    return _declared(
        VIEWS,
        scan_id=scan_id,
        mask=asdict(traits.mask(dataset.mask)),
        voxel=points.voxel,
        neighbours=points.neighbours,
        spares=points.spares,
        variants=points.variants,
        seed=points.seed,
        algorithm=VIEWS_ALGORITHM,
    )


def teacher_identity(teacher: Teacher) -> dict[str, Any]:
    """What the user chose; the weights' digest is recorded at first use and must match ever after."""
    if teacher.weights == "untrained":
        weights: dict[str, Any] = {"untrained": {"seed": teacher.seed, "init": "timm"}}
    elif teacher.weights == "hub":
        weights = {"hub": teacher.model}
    else:
        weights = {"file": Path(teacher.weights).name}
    return _declared(
        features_schema(teacher.storage),
        model=teacher.model,
        weights=weights,
        layer=teacher.layer,
        image_size=list(teacher.image_size),
        antialias=teacher.antialias,
        position_embedding=teacher.position_embedding,
        precision=teacher.precision,
        storage=teacher.storage,
        algorithm=FEATURES_ALGORITHM,
    )


def run_identity(
    student: Student, teacher_id: str, intensity: dict[str, tuple[float, float]], reads: list[Any]
) -> dict[str, Any]:
    """The resolved student block, and the ids and member digests of all it reads."""
    block = student.resolved()
    # Names are for people: what they stand for is in `teacher` and `reads`.
    del block["teacher"], block["datasets"]
    return {
        "student": block,
        "teacher": teacher_id,
        "intensity": {name: list(values) for name, values in sorted(intensity.items())},
        "reads": reads,
        "algorithm": PRETRAIN_ALGORITHM,
    }


def scan_id(name: str, identity: dict[str, Any]) -> str:
    return f"{name}-{digest(identity)}"


def label_id(identity: dict[str, Any]) -> str:
    return f"{identity['label_map']}-{digest(identity)}"


def view_id(name: str, identity: dict[str, Any]) -> str:
    return f"{name}-{digest(identity)}"


def teacher_id(identity: dict[str, Any]) -> str:
    return f"{short_name(identity['model'])}-{digest(identity)}"


def _declared(schema: StoreSchema, **fields: Any) -> dict[str, Any]:
    """An identity holds exactly the fields that its schema declares, and the schema's version."""
    if set(fields) != set(schema.identity):
        raise TypeError(f"{schema.tag} declares the identity {schema.identity}, got {sorted(fields)}")
    return {"schema": schema.tag, **fields}

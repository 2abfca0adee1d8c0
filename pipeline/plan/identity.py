"""Ids: content and choice, never time. Each is the digest of an explicit table of what determines the bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.features import features_schema
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS
from pipeline.config.model import Dataset, Points, Student, Teacher
from pipeline.config.model_names import short_name
from pipeline.config.registry import row_of
from pipeline.config.standardisation import standardisation_digest
from pipeline.config.teacher import is_hub
from pipeline.config.training import Finetune, Labelled, Probe
from pipeline.datasets.reader import Traits
from pipeline.plan.label_subset import listed_scans
from pipeline.plan.parts import Run
from pipeline.plan.teacher_weights import named

VIEWS_ALGORITHM = 2
"""Raised by hand when the meaning of a view partition's bytes changes."""
FULL_SCANS_ALGORITHM = 1
"""Raised by hand when the meaning of a full-scan partition's bytes changes."""
FEATURES_ALGORITHM = 2
"""Raised by hand when the meaning of a feature partition's bytes changes."""
PRETRAIN_ALGORITHM = 1
"""Raised by hand when the same config would train another student."""
IMPORT_ALGORITHM = 1
"""Raised by hand when the same weights would become another student."""
PROBE_ALGORITHM = 1
"""Raised by hand when the same config would train or score another probe."""
FINETUNE_ALGORITHM = 1
"""Raised by hand when the same config would finetune or score another student."""

WHOLE = ("voxel", "neighbours", "max_points", "field_of_view", "cell")
"""What of `points` makes a whole scan a student's input."""


def scan_identity(name: str, dataset: Dataset, traits: Traits) -> dict[str, Any]:
    return _declared(
        SCANS,
        dataset=name,
        reader=traits.reader,
        reader_version=traits.reader_version,
        dataset_version=dataset.version,
        frame=traits.frame,
        later=[dataset.came_later("scans")],
    )


def label_identity(dataset: Dataset, traits: Traits) -> dict[str, Any]:
    return _declared(
        LABELS,
        label_map=traits.reader,
        label_map_version=traits.label_map_version,
        later=[dataset.came_later("labels")],
    )


def view_identity(scan_id: str, dataset: Dataset, points: Points, traits: Traits) -> dict[str, Any]:
    return _declared(
        VIEWS,
        scan_id=scan_id,
        mask=asdict(traits.mask(dataset.mask)),
        voxels_along=traits.voxels(dataset.frame),
        voxel=points.voxel,
        neighbours=points.neighbours,
        spares=points.spares,
        field_of_view=points.reach,
        variants=points.variants,
        seed=points.seed,
        algorithm=VIEWS_ALGORITHM,
        later=[dataset.came_later("views"), points.came_later("stores", "views")],
    )


def full_scan_identity(scan_id: str, points: Points) -> dict[str, Any]:
    """Of whole scans for evaluation: neither seed nor variants, for nothing is drawn."""
    return _declared(
        FULL_SCANS,
        scan_id=scan_id,
        voxel=points.voxel,
        neighbours=points.neighbours,
        field_of_view=[list(side) for side in points.field_of_view],
        algorithm=FULL_SCANS_ALGORITHM,
        later=[points.came_later("stores", "full_scans")],
    )


def teacher_identity(teacher: Teacher, file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the user chose. The digest of the weights is recorded at their first use, and must be the same ever after.

    file: what stands for weights that are a file: their tensors or, as before, the file's name (`teacher_weights.py`).
    """
    if teacher.weights == "untrained":
        weights: dict[str, Any] = {"untrained": {"seed": teacher.seed, "init": "timm"}}
    elif is_hub(teacher.weights):
        row = row_of(teacher.model)
        revision = teacher.weights.partition("@")[2] or (row.revision if row else None)
        weights = {"hub": row.hub if row else f"timm/{teacher.model}", "revision": revision}
    else:
        weights = dict(file or named(teacher))
    return _declared(
        features_schema(teacher.storage),
        model=teacher.model,
        weights=weights,
        layer=teacher.layer,
        image_size=list(teacher.image_size),
        antialias=teacher.antialias,
        decode=teacher.decode,
        position_embedding=teacher.position_embedding,
        precision=teacher.precision,
        standardise=standardisation_digest(teacher),
        storage=teacher.storage,
        algorithm=FEATURES_ALGORITHM,
        later=[teacher.came_later()],
    )


def run_identity(
    student: Student,
    seed: int,
    teacher_ids: list[str],
    intensity: dict[str, Any],
    reads: list[Any],
) -> dict[str, Any]:
    """The resolved student block with the run's one seed, and the ids and member digests of all it reads."""
    block = student.resolved()
    # Names are for people: what they stand for is in `teachers` and `reads`. One more seed changes no other run.
    del block["teacher"], block["datasets"], block["seeds"]
    return {
        "student": {**block, "seed": seed},
        "teachers": teacher_ids,
        "intensity": intensity,
        "reads": reads,
        "algorithm": PRETRAIN_ALGORITHM,
    }


def labelled_block(block: Labelled) -> dict[str, Any]:
    """The resolved block of a probe or a finetuning; of a file with names of scans what it holds."""
    resolved = block.resolved()
    return resolved | ({"scans": digest(sorted(listed_scans(block.scans)))} if block.scans else {})


def finetune_identity(
    kind: str, finetune: Finetune, run: Run, intensity: dict[str, Any], reads: list[Any]
) -> dict[str, Any]:
    """The resolved block, what it reads, and what it starts from: a run, or the network, points and seed of a random start."""
    start = {"run": run.id} if kind == "finetuned" else _random_start(run)
    return {
        "kind": kind,
        "finetune": labelled_block(finetune),
        **start,
        "intensity": intensity,
        "reads": reads,
        "algorithm": FINETUNE_ALGORITHM,
    }


def imported_identity(student: Student, seed: int, intensity: dict[str, Any], weights: str) -> dict[str, Any]:
    """Of a student that starts from weights: their digest, and the student that is made of them. No key of a pretraining
    enters it."""
    return {
        "student": {"network": student.network.resolved(), "points": student.points.resolved(), "seed": seed},
        "weights": weights,
        "intensity": intensity,
        "algorithm": IMPORT_ALGORITHM,
    }


def probe_identity(
    kind: str,
    probe: Probe,
    run: Run,
    teacher_ids: list[str],
    intensity: dict[str, Any],
    reads: list[Any],
) -> dict[str, Any]:
    """The resolved probe block, what it reads, and of what is probed only what matters to its features.

    A baseline knows no run: one more epoch of pretraining, or another teacher, trains no baseline again.
    """
    block = labelled_block(probe)
    for key in UNUSED_KEYS.get(kind, ()):
        del block[key]
    subject = PROBED[kind](Probed(probe, run, teacher_ids, intensity))
    return {"kind": kind, "probe": block, **subject, "reads": reads, "algorithm": PROBE_ALGORITHM}


@dataclass(frozen=True)
class Probed:
    """What the features that are probed may depend on.

    Attributes:
        intensity: how the intensities of each dataset are normalised.
    """

    probe: Probe
    run: Run
    teacher_ids: list[str]
    intensity: dict[str, Any]

    @property
    def points(self) -> Points:
        return self.run.student.points


def _distilled(probed: Probed) -> dict[str, Any]:
    return {"run": probed.run.id, "intensity": probed.intensity}


def _random(probed: Probed) -> dict[str, Any]:
    return {**_random_start(probed.run), "intensity": probed.intensity}


def _calibrated(probed: Probed) -> dict[str, Any]:
    """Also the pretraining batches that the batch norms see."""
    run, student = probed.run, probed.run.student
    calibration = {
        "batches": probed.probe.calibration_batches,
        "batch": student.pretrain.batch,
        "cameras": student.cameras,
        "augment": student.augment.resolved(),
        "intensity": run.identity["intensity"],
        "reads": [[r.dataset, r.split, r.partition, r.scans, r.views] for r in run.readings],
    }
    if came_later := student.came_later() | student.pretrain.came_later():
        calibration["later"] = came_later  # keys that may change these batches
    return _random(probed) | {"points": probed.points.resolved(), "calibration": calibration}


def _scratch(probed: Probed) -> dict[str, Any]:
    """Also how the student is trained."""
    probe = probed.probe
    training = {
        "lr": probe.scratch_lr,
        "epochs": probe.scratch_epochs or probe.epochs,
        "drop": probed.run.student.network.resolved()["stochastic_depth"],
    }
    return _random(probed) | {"training": training}


def _inputs(probed: Probed) -> dict[str, Any]:
    """The raw features of points."""
    points = _selected(probed.points, "voxel", "max_points", "field_of_view")
    return {"points": points, "seed": probed.run.seed, "intensity": probed.intensity}


def _teacher(probed: Probed) -> dict[str, Any]:
    """The teachers' own features, at the pixels of points."""
    run = probed.run
    return {"teachers": probed.teacher_ids, "sampling": run.student.sampling, "seed": run.seed}


PROBED: dict[str, Callable[[Probed], dict[str, Any]]] = {
    "distilled": _distilled,
    "random": _random,
    "calibrated": _calibrated,
    "scratch": _scratch,
    "inputs": _inputs,
    "teacher": _teacher,
}
"""By the kind of a probe, what its features depend on."""

UNUSED_KEYS = {"teacher": ("augment", "field_of_view", "precision", "votes")}
"""By kind, keys of the block that are not used: a probe of the teacher reads pixels, each once."""


def _random_start(run: Run) -> dict[str, Any]:
    """A student before any training. The head of a pretraining, and how branches are dropped, change nothing of it."""
    network = run.student.network.resolved()
    for key in ("head", "head_width", "stochastic_depth"):
        del network[key]
    return {"network": network, "points": _selected(run.student.points, *WHOLE), "seed": run.seed}


def _selected(points: Points, *keys: str) -> dict[str, Any]:
    """Some keys of the block, and those that were added later."""
    resolved = points.resolved()
    return {key: resolved[key] for key in keys} | points.came_later()


def store_id(name: str, identity: dict[str, Any]) -> str:
    """Of scans, views and full scans (name: the dataset's) and of labels (the label map's)."""
    return f"{name}-{digest(identity)}"


def teacher_id(identity: dict[str, Any]) -> str:
    return f"{short_name(identity['model'])}-{digest(identity)}"


def _declared(
    schema: StoreSchema, *, later: Sequence[Mapping[str, Any]] = (), **fields: Any
) -> dict[str, Any]:
    """An identity: exactly the fields that its schema declares, the schema's version, and the keys that were added later
    (`later`, by block) whose value is not the one they were born with.

    Raises:
        TypeError: for a field that is missing, or that is given twice.
    """
    if set(fields) != set(schema.identity):
        raise TypeError(f"{schema.tag} declares the identity {list(schema.identity)}, got {sorted(fields)}")
    identity = {"schema": schema.tag, **fields}
    for block in later:
        twice = set(block) & set(identity)
        if twice:
            raise TypeError(
                f"the identity of {schema.tag} has {sorted(twice)} already; the new key needs another name"
            )
        identity |= block
    return identity

"""Weights of the authors as a folder of ours, and the run of a student that starts from such a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest, sha256_file
from cache_schemas.errors import BadInput
from pipeline.common.run_files import PROVENANCE, WEIGHTS
from pipeline.common.weights_files import digest_of_file, digest_of_tensors
from pipeline.config.model import Points, Student
from pipeline.datasets.readers import packaged
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import IMPORT_ALGORITHM
from pipeline.plan.intensity import intensity_of
from pipeline.plan.parts import Run
from pipeline.plan.run_record import ChangedFile, forget_record, read_facts, write_record
from pipeline.plan.starting_weights import Facts, check_network, read_weights_folder, weights_of
from pipeline.students.authors import Described, describe, expected_shapes, from_authors
from pipeline.students.authors_file import AuthorsFile, read_authors_file
from pipeline.students.distilled import Distilled
from pipeline.students.heads import ProbeHead
from pipeline.students.loading import differences, load_exactly, tensors_below
from pipeline.students.waffleiron import Activation, WaffleIron
from pipeline.training.run_folder import write_marker
from pipeline.training.weights_folder import checked_weights, read_tensors, save_weights, write_provenance

ACTIVATIONS: dict[str, Activation] = {"linear": "relu", "mlp": "gelu"}
"""The activation of the released networks, by their head, since no tensor tells it. ScaLR has a linear head and ReLU, ScaLR+ a
head of two layers and GELU."""


def read_weights(
    path: Path, wanted: Described | None = None, where: str = ""
) -> tuple[AuthorsFile, Described]:
    """A checkpoint of theirs and what it holds.

    wanted: the network of a config, at the key `where`; its head and classes are not compared.

    Raises:
        BadInput: if the file cannot be used, or its tensors do not fit together, or not the config.
    """
    file = read_authors_file(path)
    try:
        contents = describe(file.shapes)
    except BadInput as error:
        raise BadInput(f"{path} cannot be taken over: {error}") from error
    if wanted is not None:
        as_wanted = replace(contents, width=wanted.width, depth=wanted.depth, norm=wanted.norm)
        _check_fit(path, file, contents, as_wanted, where)
    return file, contents


def write_weights(
    folder: Path, path: Path, file: AuthorsFile, contents: Described, activation: Activation
) -> dict[str, Any]:
    """Write weights, provenance, then the marker, as for a run; returns the provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    network = {**contents.network, "activation": activation}
    tensors = from_authors(file.state, contents)
    published = {name: reader.traits.intensity for name, reader in packaged().items()}
    scaled = {name: list(values) for name, values in sorted(published.items()) if values is not None}
    identity = {
        "student": {"network": network, "points": Points().resolved()},
        "weights": digest_of_tensors(tensors),
        "intensity": scaled,
        "algorithm": IMPORT_ALGORITHM,
    }
    imported = {
        "file": path.name,
        "sha256": sha256_file(path),
        "key": file.key,
        "tensors": len(file.state),
        "holds": str(contents),
        "network": network,
        "classes": contents.out if contents.head == "classes" else None,
    }
    if known := _imported_before(folder, identity):
        _mark(folder, known)
        return known
    forget_record(folder)
    save_weights(folder, tensors, {"griddle": "griddle student"})
    facts = {"intensity": scaled, "imported": imported}
    provenance = write_provenance(folder, digest(identity), identity, facts)
    _mark(folder, provenance)
    return provenance


def _mark(folder: Path, provenance: Facts) -> None:
    write_record(folder, {"kind": "imported", "run_id": provenance["run_id"], "weights": WEIGHTS})


def _imported_before(folder: Path, identity: Facts) -> Facts | None:
    """The provenance of a folder that holds these very weights already. It keeps its id, also one of before, when the bytes
    of weights.safetensors were in it."""
    try:
        known = read_facts(folder, PROVENANCE)
        whole = known["weights_sha256"] == sha256_file(folder / WEIGHTS)
        same = digest_of_file(folder / WEIGHTS) == identity["weights"]
        if whole and same and {**known["identity"], "weights": identity["weights"]} == identity:
            return known
    except (OSError, ValueError, KeyError, TypeError, ChangedFile):
        pass
    return None


def adopt(experiment: Experiment, run: Run) -> None:
    """Make the run of a student that starts from weights: write these, their provenance, then the marker.

    Raises:
        BadInput: if they have changed since this was planned.
        GriddleError: if their file is damaged.
    """
    source, folder = Path(run.student.starts_from or ""), experiment.run_path(run)
    where = f"students.{run.name}.starts_from"
    provenance = read_weights_folder(where, source)
    check_network(where, source, provenance, run.student)
    if weights_of(provenance) != run.identity["weights"]:
        raise BadInput(
            f"{where}: {source} holds other weights than before. Run the same snakemake command again."
        )
    tensors = read_tensors(source)
    forget_record(folder)
    save_weights(folder, tensors, {"griddle": "griddle student", "run_id": run.id, "student": run.name})
    facts: Facts = {
        "intensity": {name: list(intensity_of(experiment, name)) for name in run.student.datasets},
        "steps": 0,
        "weights_of": {
            "folder": str(source),
            **{key: provenance[key] for key in ("run_id", "imported") if key in provenance},
        },
    }
    write_provenance(folder, run.id, run.identity, facts)
    write_marker(folder, run)


def imported_network(folder: Path, student: Student, points: Points) -> tuple[WaffleIron, ProbeHead]:
    """The network and the head of imported weights that came with classes. Its planes are as large as `points` needs.

    Raises:
        GriddleError: if their file is damaged.
    """
    backbone = Distilled(student.model_copy(update={"points": points}), channels=1).backbone
    with checked_weights(folder) as tensors:
        classes, width = tensors["probe.linear.weight"].shape
        head = ProbeHead(width, classes)
        load_exactly(backbone, tensors_below("backbone.", tensors))
        load_exactly(head, tensors_below("probe.", tensors))
    return backbone, head


def _check_fit(path: Path, file: AuthorsFile, contents: Described, wanted: Described, where: str) -> None:
    if contents == wanted:
        return
    complaints = differences(file.shapes, expected_shapes(wanted)) or [
        f"it has {len(file.state)} tensors, and {len(expected_shapes(wanted))} are asked for"
    ]
    lines = ", ".join(f"{key}: {value}" for key, value in contents.network.items())
    raise BadInput(
        f"{path} does not fit {where}: {'; '.join(complaints)}.\nIt holds a {contents}. Write what fits it:\n"
        f"    network: {{{lines}}}"
    )

"""Weights of the authors as a folder of ours, and the run of a student that starts from such a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cache_schemas.canonical import digest, sha256_file
from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.manifest import made
from cache_schemas.publish import write_json
from pipeline.config.model import Points, Student
from pipeline.datasets.readers import packaged
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import IMPORT_ALGORITHM
from pipeline.plan.intensity import intensity_of
from pipeline.plan.parts import Run
from pipeline.plan.starting_weights import PROVENANCE, check_network, read_weights_folder
from pipeline.students.authors import Described, describe, expected_shapes, from_authors
from pipeline.students.authors_file import AuthorsFile, read_authors_file
from pipeline.students.distilled import Distilled
from pipeline.students.heads import ProbeHead
from pipeline.students.loading import differences, load_exactly, tensors_below
from pipeline.students.waffleiron import Activation, WaffleIron
from pipeline.training.run_folder import WEIGHTS, commit, save_weights, write_marker

ACTIVATIONS: dict[str, Activation] = {"linear": "relu", "mlp": "gelu"}
"""Of the released networks, by head: no tensor tells it. ScaLR has a linear head and ReLU, ScaLR+ two layers and GELU."""


def read_weights(
    path: Path, wanted: Described | None = None, where: str = ""
) -> tuple[AuthorsFile, Described]:
    """A checkpoint of theirs and what it holds.

    wanted: what a config asks for, at `where`; head and classes of it are not looked at.

    Raises:
        BadInput: if the file cannot be used, or its tensors do not fit together, or not the config.
    """
    file = read_authors_file(path)
    try:
        found = describe(file.shapes)
    except BadInput as error:
        raise BadInput(f"{path} cannot be taken over: {error}") from error
    if wanted is not None:
        as_wanted = replace(found, width=wanted.width, depth=wanted.depth, norm=wanted.norm)
        _check_fit(path, file, found, as_wanted, where)
    return file, found


def write_weights(
    folder: Path, path: Path, file: AuthorsFile, found: Described, activation: Activation
) -> dict[str, Any]:
    """Weights, provenance, then the marker, as of a run; returns the provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    network = {**found.network, "activation": activation}
    save_weights(
        folder, from_authors(file.state, found), {"griddle": "griddle student", "imported": path.name}
    )
    weights_sha256 = sha256_file(folder / WEIGHTS)
    published = {name: reader.traits.intensity for name, reader in packaged().items()}
    scaled = {name: list(values) for name, values in sorted(published.items()) if values is not None}
    what = {
        "student": {"network": network, "points": Points().resolved()},
        "weights": weights_sha256,
        "intensity": scaled,
        "algorithm": IMPORT_ALGORITHM,
    }
    provenance = {
        "griddle": "griddle provenance",
        "run_id": digest(what),
        "identity": what,
        "weights_sha256": weights_sha256,
        "intensity": scaled,
        "imported": {
            "file": path.name,
            "sha256": sha256_file(path),
            "key": file.key,
            "tensors": len(file.state),
            "holds": str(found),
            "network": network,
            "classes": found.out if found.head == "classes" else None,
        },
        "commit": commit(),
        "made": made(),
    }
    write_json(folder / "provenance.json", provenance)
    write_json(
        folder / "done.json",
        {"griddle": "griddle run", "kind": "imported", "run_id": provenance["run_id"], "weights": WEIGHTS},
    )
    return provenance


def adopt(experiment: Experiment, run: Run) -> None:
    """Make the run of a student that has weights: these, where they come from, then the marker.

    Raises:
        BadInput: if they are not what they were when this was planned.
        GriddleError: if their file is damaged.
    """
    source, folder = Path(run.student.starts_from or ""), experiment.run_path(run)
    where = f"students.{run.name}.starts_from"
    provenance = read_weights_folder(where, source)
    check_network(where, source, provenance, run.student)
    if provenance["weights_sha256"] != run.identity["weights"]:
        raise BadInput(
            f"{where}: {source} holds other weights than before. Run the same snakemake command again."
        )
    tensors = _tensors(source, provenance)
    save_weights(folder, tensors, {"griddle": "griddle student", "run_id": run.id, "student": run.name})
    write_json(
        folder / "provenance.json",
        {
            "griddle": "griddle provenance",
            "run_id": run.id,
            "identity": run.identity,
            "weights_sha256": sha256_file(folder / WEIGHTS),
            "intensity": {name: list(intensity_of(experiment, name)) for name in run.student.datasets},
            "steps": 0,
            "weights_of": {
                "folder": str(source),
                **{k: provenance[k] for k in ("run_id", "imported") if k in provenance},
            },
            "commit": commit(),
            "made": made(),
        },
    )
    write_marker(folder, run)


def imported_network(folder: Path, student: Student, points: Points) -> tuple[WaffleIron, ProbeHead]:
    """The network of imported weights that came with classes, its planes as large as `points` wants them, and its head.

    Raises:
        GriddleError: if their file is damaged.
    """
    tensors = _tensors(folder, json.loads((folder / PROVENANCE).read_bytes()))
    classes, width = tensors["probe.linear.weight"].shape
    backbone = Distilled(student.model_copy(update={"points": points}), channels=1).backbone
    head = ProbeHead(width, classes)
    load_exactly(backbone, tensors_below("backbone.", tensors))
    load_exactly(head, tensors_below("probe.", tensors))
    return backbone, head


def _tensors(folder: Path, provenance: dict[str, Any]) -> dict[str, Tensor]:
    """Those that were imported, or a run's.

    Raises:
        GriddleError: if they are not.
    """
    try:
        if sha256_file(folder / WEIGHTS) != provenance["weights_sha256"]:
            raise ValueError("their SHA-256 is not the one in provenance.json")
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise GriddleError(
            f"{folder / WEIGHTS} does not hold the weights that were imported ({error}).\n"
            f"Delete {folder} and import them again: griddle weights import FILE --out {folder}"
        ) from error


def _check_fit(path: Path, file: AuthorsFile, found: Described, wanted: Described, where: str) -> None:
    if found == wanted:
        return
    complaints = differences(file.shapes, expected_shapes(wanted)) or [
        f"it has {len(file.state)} tensors, and {len(expected_shapes(wanted))} are asked for"
    ]
    lines = ", ".join(f"{key}: {value}" for key, value in found.network.items())
    raise BadInput(
        f"{path} does not fit {where}: {'; '.join(complaints)}.\nIt holds a {found}. Write what fits it:\n"
        f"    network: {{{lines}}}"
    )

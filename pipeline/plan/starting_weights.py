"""Students that start from weights instead of a pretraining: what a plan must know of the weights, and the students' runs.

Imports neither torch nor zarr: of a folder of weights only its provenance is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.common.run_files import PROVENANCE
from pipeline.config.blocks import RECORDED
from pipeline.config.model import Student
from pipeline.plan.experiment import Experiment
from pipeline.plan.identity import imported_identity
from pipeline.plan.intensity import intensity_identities
from pipeline.plan.parts import Run
from pipeline.plan.run_record import read_facts

Facts = dict[str, Any]


def network_of(provenance: Facts) -> Facts:
    """The `network` of weights: what their file said of it, or all of it where the weights are of a run of ours."""
    imported: Facts = provenance["imported"]["network"] if "imported" in provenance else {}
    return imported or provenance["identity"]["student"]["network"]


def weights_of(provenance: Facts) -> str:
    """What stands for weights in an id: the digest of their tensors and names; of before that was recorded, of the file's
    bytes."""
    digest: str = provenance["tensors_sha256" if "tensors_sha256" in provenance else "weights_sha256"]
    return digest


def read_weights_folder(where: str, folder: Path) -> Facts:
    """The provenance of a folder that `griddle weights import` wrote, or of a pretrained run; `where`: the key that names it.

    Raises:
        BadInput: if it is neither.
        ChangedFile: if its provenance is not the one that was written.
    """
    try:
        provenance: Facts = read_facts(folder, PROVENANCE)
        if not {"weights_sha256", "identity"} <= set(provenance) or not network_of(provenance):
            raise ValueError("it says nothing of weights")
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "griddle weights import FILE --out FOLDER"
        if folder.is_file():
            hint = f"griddle weights import {folder} --out imported/{folder.stem}"
        raise BadInput(
            f"{where}: {folder} is no folder of weights ({error}). Give one that this command wrote: `{hint}`, or a "
            f"run's folder <workdir>/runs/<student>-<run id>"
        ) from error
    return provenance


def student_of_weights(folder: Path, provenance: Facts, datasets: list[str]) -> Student:
    """The student that weights of the authors are, as a config would have it."""
    block = provenance["identity"]["student"]
    return Student.model_validate(
        {**block, "datasets": datasets, "starts_from": str(folder)}, context=RECORDED
    )


def imported_runs(experiment: Experiment, name: str, student: Student) -> list[Run]:
    """The runs, one for each seed, of a student that starts from weights. They read nothing; the digest of the weights is in
    their id.

    Raises:
        BadInput: if the weights are not there, or are of another network than the config's.
    """
    where = f"students.{name}.starts_from"
    folder = Path(student.starts_from or "")
    provenance = read_weights_folder(where, folder)
    check_network(where, folder, provenance, student)
    scaled = intensity_identities(experiment, student.datasets)
    return [
        Run(
            name,
            student,
            seed,
            imported_identity(student, seed, scaled, weights_of(provenance)),
            (),
            (),
        )
        for seed in student.seeds
    ]


def check_network(where: str, folder: Path, provenance: Facts, student: Student) -> None:
    """Raise BadInput, with the lines that fit, unless the config's network is that of the weights."""
    asked, network = student.network.resolved(), network_of(provenance)
    other = [
        key
        for key in ("width", "depth", "norm", "activation", "head")
        if network.get(key, asked[key]) != asked[key]
    ]
    if other:
        differ = ", ".join(f"{key} {network[key]}, not {asked[key]}" for key in other)
        raise BadInput(
            f"{where}: {folder} holds another network than the config asks for: {differ}.\nWrite what fits it:\n"
            f"    network: {flow(network)}"
        )


def flow(network: Facts) -> str:
    """A network as one line of a config."""
    keys = ("width", "depth", "norm", "activation", "head", "head_width")
    return "{" + ", ".join(f"{key}: {network[key]}" for key in keys if network.get(key) is not None) + "}"

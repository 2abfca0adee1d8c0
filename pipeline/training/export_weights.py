"""A run of ours as a checkpoint that the authors' code loads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cache_schemas.canonical import sha256_file
from cache_schemas.errors import BadInput, GriddleError
from pipeline.plan.starting_weights import PROVENANCE, network_of
from pipeline.students.authors import Described, Head, describe, to_authors
from pipeline.students.authors_file import write_authors_file
from pipeline.training.run_folder import WEIGHTS


@dataclass(frozen=True)
class Exported:
    """key: under which their code looks for the network. branch: of github.com/valeoai/ScaLR that computes it."""

    key: str
    branch: str
    described: Described
    tensors: int


def export(folder: Path, out: Path, *, module: bool) -> Exported:
    """Write the student of a run, or with its probe's classes, to `out`.

    folder: of a run, a probe of a run, the baseline `scratch`, or imported weights. module: prefix names with `module.`,
    as their training on several GPUs does and asks for where it goes on.

    Raises:
        BadInput: if the folder holds no student, or one that their code cannot compute.
        GriddleError: if its weights are not those that were trained.
    """
    tensors, provenance = _read(folder)
    of_backbone = provenance
    if not any(name.startswith("backbone.") for name in tensors):
        if folder.absolute().parent.name != "probe":
            raise BadInput(f"{folder} holds no student: its weights are {', '.join(list(tensors)[:3])}, ...")
        whole, of_backbone = _read(folder.absolute().parent.parent)
        tensors |= {name: value for name, value in whole.items() if name.startswith("backbone.")}
    network = _network(of_backbone)
    head, tensors = _head(folder, tensors)
    branch = _branch(folder, network, head)
    state = to_authors(tensors, head)
    described = describe({name: tuple(value.shape) for name, value in state.items()})
    key = "net" if head == "classes" else "model_point"
    write_authors_file(out, key, state, module=module)
    return Exported(key, branch, described, len(state))


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, without a leading `student.`, and provenance of a folder that is complete."""
    try:
        provenance: dict[str, Any] = json.loads((folder / PROVENANCE).read_bytes())
        expected = provenance["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{folder} holds no run that is complete ({error}); give a folder <workdir>/runs/<student>-<run id>, or one "
            f"in its probe/"
        ) from error
    try:
        if sha256_file(folder / WEIGHTS) != expected:
            raise ValueError("their SHA-256 is not the one in provenance.json")
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise GriddleError(
            f"{folder / WEIGHTS} does not hold the weights that were trained ({error}).\nDelete {folder} and run the "
            f"same snakemake command again."
        ) from error
    return {name.removeprefix("student."): value for name, value in tensors.items()}, provenance


def _network(provenance: dict[str, Any]) -> dict[str, Any]:
    identity = provenance["identity"]
    found: dict[str, Any] = identity["network"] if "network" in identity else network_of(provenance)
    return found


def _head(folder: Path, tensors: dict[str, Tensor]) -> tuple[Head, dict[str, Tensor]]:
    """Which head it is, and the tensors with a head of classes called `probe`."""
    if "probe.linear.weight" in tensors:
        return "classes", tensors
    if "head.linear_in.weight" in tensors:
        if "head.norm.weight" in tensors:
            raise BadInput(
                f"{folder} has the head of several teachers (two layers with LayerNorm), which their code does not have; "
                f"export one of its probes"
            )
        return "mlp", tensors
    if "head.norm.weight" in tensors:
        return "classes", {_probe(name): value for name, value in tensors.items()}
    return "linear", tensors


def _probe(name: str) -> str:
    return f"probe.{name.removeprefix('head.')}" if name.startswith("head.") else name


def _branch(folder: Path, network: dict[str, Any], head: Head) -> str:
    """The branch of their code that has this norm, activation and head."""
    norm, activation = network["norm"], network["activation"]
    if activation == "relu" and head != "mlp":
        return "main"
    if norm == "layer":
        return "scalr_plus"
    raise BadInput(
        f"{folder} has {norm} norm, {activation} and the head {head}: no branch of their code computes that (main: ReLU "
        f"and a linear head; scalr_plus: layer norm)"
    )

"""A run of ours as a checkpoint that the authors' code loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.plan.starting_weights import Facts, network_of
from pipeline.students.authors import Described, Head, describe, to_authors
from pipeline.students.authors_file import write_authors_file
from pipeline.training.weights_folder import complete_run, read_tensors


@dataclass(frozen=True)
class Exported:
    """key: under which their code looks for the network. branch: of github.com/valeoai/ScaLR that computes it."""

    key: str
    branch: str
    described: Described
    tensors: int


def export(folder: Path, out: Path, *, module: bool) -> Exported:
    """Write the student of a run, or with its probe's classes, to `out`.

    folder: of a run, a probe or finetuning of a run, the baseline `scratch`, or imported weights. module: prefix names with `module.`,
    as their training on several GPUs does and asks for where it goes on.

    Raises:
        BadInput: if the folder holds no student, or one that their code cannot compute.
        GriddleError: if its weights are not those that were trained.
    """
    tensors, provenance = _read(folder)
    if not any(name.startswith("backbone.") for name in tensors):
        if folder.absolute().parent.name != "probe":
            raise BadInput(f"{folder} holds no student: its weights are {', '.join(list(tensors)[:3])}, ...")
        student, provenance = _read(folder.absolute().parent.parent)
        tensors |= {name: value for name, value in student.items() if name.startswith("backbone.")}
    network = _network(folder, provenance)
    head, tensors = _head(folder, tensors)
    branch = _branch(folder, network, head)
    state = to_authors(tensors, head)
    described = describe({name: tuple(value.shape) for name, value in state.items()})
    key = "net" if head == "classes" else "model_point"
    write_authors_file(out, key, state, module=module)
    return Exported(key, branch, described, len(state))


def _read(folder: Path) -> tuple[dict[str, Tensor], Facts]:
    """Tensors, without a leading `student.`, and provenance of a folder that is complete."""
    with complete_run(folder, "or one in its probe/ or finetune/") as provenance:
        _ = provenance["weights_sha256"]  # a folder of somebody else's has none
    tensors = read_tensors(folder)
    return {name.removeprefix("student."): value for name, value in tensors.items()}, provenance


def _network(folder: Path, provenance: Facts) -> Facts:
    """The student's network: of what starts from nothing in its own identity, of a finetuning in that of its run."""
    identity = provenance["identity"]
    if "network" in identity:
        network: Facts = identity["network"]
        return network
    if "student" not in identity and "imported" not in provenance:
        _, provenance = _read(folder.absolute().parent.parent)
    return network_of(provenance)


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


def _branch(folder: Path, network: Facts, head: Head) -> str:
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

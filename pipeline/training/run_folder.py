"""A run's folder: weights, what they came from, and the marker that says it is done."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from cache_schemas.canonical import sha256_file
from cache_schemas.manifest import made
from cache_schemas.publish import fsync_folder, write_bytes, write_json
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import intensity_of
from pipeline.plan.parts import Run

WEIGHTS = "weights.safetensors"


def is_complete(folder: Path, run_id: str) -> bool:
    """Whether the run's weights and provenance are there and agree: then only the marker may be missing."""
    try:
        provenance = json.loads((folder / "provenance.json").read_bytes())
        return bool(
            provenance["run_id"] == run_id and provenance["weights_sha256"] == sha256_file(folder / WEIGHTS)
        )
    except (OSError, ValueError, KeyError):
        return False


def write_marker(folder: Path, run: Run) -> None:
    """done.json: small, written last, and all that Snakemake sees of a run."""
    write_json(
        folder / "done.json",
        {
            "griddle": "griddle run",
            "kind": "pretrain",
            "student": run.name,
            "seed": run.seed,
            "run_id": run.id,
            "weights": WEIGHTS,
        },
    )


def save_config(folder: Path, experiment: Experiment, run: Run) -> None:
    """config.yaml: the resolved blocks that this run was made from, as a config of its own."""
    config = experiment.config.model_dump(mode="json")
    config["students"] = {run.name: config["students"][run.name] | {"seeds": [run.seed]}}
    config["teachers"] = {name: config["teachers"][name] for name in run.student.teachers}
    config["probes"] = {name: config["probes"][name] for name in run.student.probes}
    config["finetunes"] = {name: config["finetunes"][name] for name in run.student.finetunes}
    labelled = [*config["probes"].values(), *config["finetunes"].values()]
    learnt = [name for block in labelled for name in block["datasets"] or []]
    config["datasets"] = {name: config["datasets"][name] for name in (*run.student.datasets, *learnt)}
    write_bytes(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


def save_weights(folder: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """weights.safetensors, whole or not at all."""
    beside = folder / f".writing-{WEIGHTS}-{os.getpid()}"
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, beside, metadata)
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    beside.replace(folder / WEIGHTS)
    fsync_folder(folder)


def finish(
    folder: Path,
    run: Run,
    experiment: Experiment,
    model: nn.Module,
    *,
    device: torch.device,
    steps: int,
    hours: float,
    unreadable: list[str],
    skipped: int | None = None,
) -> None:
    """Weights, then what they came from, then the marker: each complete before the next names it.

    unreadable: what `on_error: skip` kept from the training, in words. skipped: of the steps those that moved nothing,
    in float16 alone.
    """
    save_weights(
        folder, model.state_dict(), {"griddle": "griddle student", "run_id": run.id, "student": run.name}
    )
    write_json(
        folder / "provenance.json",
        {
            "griddle": "griddle provenance",
            "run_id": run.id,
            "identity": run.identity,
            "intensity": {name: list(intensity_of(experiment, name)) for name in run.student.datasets},
            "weights_sha256": sha256_file(folder / WEIGHTS),
            "steps": steps,
            **({} if skipped is None else {"skipped_steps": skipped}),
            "hours": round(hours, 4),
            "unreadable": unreadable,
            "cache": str(experiment.cache.resolve()),
            "device": str(device),
            "commit": commit(),
            "made": made(),
        },
    )
    write_marker(folder, run)


def commit() -> str | None:
    """The git commit of the code that ran, where it is a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()

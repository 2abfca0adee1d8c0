"""A run's folder: weights, what they came from, and the marker that says it is done."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from cache_schemas.publish import write_bytes
from pipeline.common.run_files import CONFIG, MADE_OF, WEIGHTS
from pipeline.plan.contents_read import contents_digest
from pipeline.plan.experiment import Experiment
from pipeline.plan.intensity import intensity_of
from pipeline.plan.parts import Run
from pipeline.plan.run_record import forget_record, write_record
from pipeline.training.weights_folder import save_weights, write_provenance


def write_marker(folder: Path, run: Run) -> None:
    """Write done.json. It is small, written last, and the only file of a run that Snakemake looks at."""
    facts = {
        "kind": "pretrain",
        "student": run.name,
        "seed": run.seed,
        "run_id": run.id,
        "weights": WEIGHTS,
    }
    write_record(folder, facts)


def save_config(folder: Path, experiment: Experiment, run: Run) -> None:
    """Write config.yaml: the resolved blocks that this run was made from, as a complete config."""
    config = experiment.config.model_dump(mode="json")
    config["students"] = {run.name: config["students"][run.name] | {"seeds": [run.seed]}}
    config["teachers"] = {name: config["teachers"][name] for name in run.student.teachers}
    config["probes"] = {name: config["probes"][name] for name in run.student.probes}
    config["finetunes"] = {name: config["finetunes"][name] for name in run.student.finetunes}
    labelled = [*config["probes"].values(), *config["finetunes"].values()]
    learnt = [name for block in labelled for name in block["datasets"] or []]
    config["datasets"] = {name: config["datasets"][name] for name in (*run.student.datasets, *learnt)}
    write_bytes(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())


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
    """Write weights, then provenance, then the marker: each is complete before the next one names it.

    unreadable: a line for each file that `on_error: skip` left out of the training. skipped: the number of steps that changed
    nothing; only float16 has such steps.
    """
    forget_record(folder)
    save_weights(
        folder, model.state_dict(), {"griddle": "griddle student", "run_id": run.id, "student": run.name}
    )
    facts = {
        "intensity": {name: list(intensity_of(experiment, name)) for name in run.student.datasets},
        "steps": steps,
        **({} if skipped is None else {"skipped_steps": skipped}),
        "hours": round(hours, 4),
        "unreadable": unreadable,
        "cache": str(experiment.cache.resolve()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        MADE_OF: contents_digest(experiment, run),
    }
    write_provenance(folder, run.id, run.identity, facts)
    write_marker(folder, run)

"""The folder of a probe, a baseline or a finetuning: weights, metrics, provenance, and the marker that says it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from cache_schemas.canonical import sha256_file
from cache_schemas.publish import write_bytes, write_json
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.parts import DONE
from pipeline.training.confusion import Confusion
from pipeline.training.weights_folder import WEIGHTS, is_complete, save_weights, write_provenance

METRICS = "metrics.json"


def is_probed(folder: Path, probe: LabelledRun) -> bool:
    """Whether weights, metrics and provenance exist and agree. If they do, nothing but the marker can be missing."""
    try:
        metrics = json.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError):
        return False
    return metrics.get("probe_id") == probe.id and is_complete(folder, probe.id)


def write_probe_marker(folder: Path, probe: LabelledRun) -> None:
    """Write done.json. It is small, written last, and the only file of a probe that Snakemake looks at."""
    write_json(
        folder / DONE,
        {
            "griddle": "griddle run",
            "kind": probe.what,
            "subject": probe.kind,
            "run_id": probe.id,
            "weights": WEIGHTS,
            "metrics": METRICS,
        },
    )


def finish_probe(
    experiment: Experiment,
    probe: LabelledRun,
    *,
    modules: dict[str, nn.Module],
    confusion: Confusion,
    classes: tuple[str, ...],
    ignored: int,
    scans: tuple[int, int],
    unreadable: list[str],
    losses: list[float],
    seconds: dict[str, float],
    device: torch.device,
    steps: int | None = None,
    hours: float | None = None,
    skipped: int | None = None,
) -> None:
    """Write config, weights, metrics, provenance, then the marker: each is complete before the next one names it."""
    folder = experiment.run_path(probe)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {probe.what: probe.block.resolved(), "student": probe.student.resolved(), "seed": probe.seed}
    write_bytes(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    save_weights(
        folder, tensors, {"griddle": f"griddle {probe.what}", "run_id": probe.id, "subject": probe.kind}
    )
    write_json(
        folder / METRICS,
        {
            "griddle": "griddle metrics",
            "probe_id": probe.id,
            "kind": probe.kind,
            probe.what: probe.name,
            "seed": probe.seed,
            **confusion.scores(classes),
            "scored_on": "points that cameras see" if probe.kind == "teacher" else "every point",
            "points": int(confusion.counts.sum()),
            "ignored_points": ignored,
            "scans": {"train": scans[0], "evaluate": scans[1]},
            "left_out": list(probe.left_out),
            "unreadable": unreadable,
            "loss": losses[-1],
            "loss_by_epoch": losses,
            "seconds": seconds,
            "confusion": confusion.counts.tolist(),
        },
    )
    facts: dict[str, Any] = {
        "metrics_sha256": sha256_file(folder / METRICS),
        "cache": str(experiment.cache.resolve()),
        "device": str(device),
    }
    if steps is not None:
        facts |= {"steps": steps, "hours": round(hours or 0.0, 4), "unreadable": unreadable}
    if skipped is not None:
        facts["skipped_steps"] = skipped
    write_provenance(folder, probe.id, probe.identity, facts)
    write_probe_marker(folder, probe)

"""The folder of a probe, a baseline or a finetuning: weights, metrics, provenance, and the marker that says it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from cache_schemas.canonical import sha256_file
from cache_schemas.publish import write_bytes, write_json
from pipeline.common.run_files import CONFIG, MADE_OF, METRICS, PROVENANCE, WEIGHTS
from pipeline.plan.contents_read import contents_digest
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledRun
from pipeline.plan.run_record import forget_record, read_facts, write_record
from pipeline.plan.split_share import SplitShare
from pipeline.training.confusion import Confusion
from pipeline.training.too_small import TooSmall
from pipeline.training.weights_folder import is_complete, save_weights, write_provenance


def is_scored(folder: Path, run: LabelledRun) -> bool:
    """Whether weights, metrics and provenance exist and agree. If they do, nothing but the marker can be missing.

    Raises:
        NoAccess: if the system refuses to read one: then nothing is trained anew.
    """
    if not is_complete(folder, run.id):
        return False
    try:
        metrics, provenance = read_facts(folder, METRICS), read_facts(folder, PROVENANCE)
        recorded = provenance.get("metrics_sha256")
        return metrics.get("probe_id") == run.id and recorded in (None, sha256_file(folder / METRICS))
    except (OSError, ValueError):
        return False


def write_labelled_marker(folder: Path, run: LabelledRun) -> None:
    """Write done.json. It is small, written last, and the only file of a training with labels that Snakemake looks at."""
    facts = {
        "kind": run.what,
        "subject": run.kind,
        "run_id": run.id,
        "weights": WEIGHTS,
        "metrics": METRICS,
    }
    write_record(folder, facts)


def finish_labelled(
    experiment: Experiment,
    run: LabelledRun,
    *,
    modules: dict[str, nn.Module],
    confusion: Confusion,
    classes: tuple[str, ...],
    ignored: int,
    scans: tuple[int, int],
    unreadable: list[str],
    shares: Sequence[SplitShare],
    too_small: TooSmall,
    losses: Sequence[float | None],
    seconds: dict[str, float],
    device: torch.device,
    steps: int | None = None,
    hours: float | None = None,
    skipped: int | None = None,
) -> None:
    """Write config, weights, metrics, provenance, then the marker: each is complete before the next one names it."""
    folder = experiment.run_path(run)
    folder.mkdir(parents=True, exist_ok=True)
    forget_record(folder)
    settings = {run.what: run.block.resolved(), "student": run.student.resolved(), "seed": run.seed}
    write_bytes(folder / CONFIG, yaml.safe_dump(settings, sort_keys=False).encode())
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    save_weights(folder, tensors, {"griddle": f"griddle {run.what}", "run_id": run.id, "subject": run.kind})
    write_json(
        folder / METRICS,
        {
            "griddle": "griddle metrics",
            "probe_id": run.id,
            "kind": run.kind,
            run.what: run.name,
            "seed": run.seed,
            **confusion.scores(classes),
            "scored_on": "points that cameras see" if run.kind == "teacher" else "every point",
            "points": int(confusion.counts.sum()),
            "ignored_points": ignored,
            "scans": {"train": scans[0], "evaluate": scans[1]},
            "left_out": list(run.left_out),
            "unreadable": unreadable,
            "shares": [share.recorded() for share in shares],
            "loss": losses[-1] if losses else None,  # of a curve that was lost nothing can be said
            "loss_by_epoch": list(losses),
            "too_small": too_small.recorded(),
            "seconds": seconds,
            "confusion": confusion.counts.tolist(),
        },
    )
    facts: dict[str, Any] = {
        "metrics_sha256": sha256_file(folder / METRICS),
        "cache": str(experiment.cache.resolve()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        MADE_OF: contents_digest(experiment, run),
    }
    if steps is not None:
        facts |= {"steps": steps, "hours": round(hours or 0.0, 4), "unreadable": unreadable}
    if skipped is not None:
        facts["skipped_steps"] = skipped
    write_provenance(folder, run.id, run.identity, facts)
    write_labelled_marker(folder, run)

"""What `griddle probe` and `griddle finetune` share: one folder after the other, each under its lease, none twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pipeline.plan.finetunes import FinetuneRun
    from pipeline.plan.plan import Plan
    from pipeline.plan.probes import ProbeRun
    from pipeline.training.lease import Lease

Item = TypeVar("Item", "ProbeRun", "FinetuneRun")


def train_each(plan: Plan, what: str, chosen: Sequence[Item], train: Callable[[Item, Lease], object]) -> None:
    """Train those that are not complete and whose student is pretrained; the others are named.

    what: `probe` or `finetune`.

    Raises:
        BadInput: if there is none.
    """
    from cache_schemas.errors import BadInput
    from pipeline.common.log import log
    from pipeline.plan.missing import check_labelled
    from pipeline.training.labelled_folder import is_scored, write_labelled_marker
    from pipeline.training.lease import Lease
    from pipeline.training.run_faults import run_faults
    from pipeline.training.weights_folder import is_complete

    experiment = plan.experiment
    # A marker alone may be gone for a moment, while Snakemake has it written again.
    waiting = [
        item
        for item in chosen
        if item.is_pretrained
        and not experiment.is_done(item.run)
        and not is_complete(experiment.run_path(item.run), item.run.id)
    ]
    for item in waiting:
        log(f"{what} {item.folder}: not yet: griddle pretrain --run {experiment.run_path(item.run).name}")
    if len(waiting) == len(chosen):
        why = "no student is pretrained yet" if chosen else "no student of the config names one"
        raise BadInput(f"nothing to {what}: {why}")
    for item in chosen:
        if item in waiting:
            continue
        folder = experiment.run_path(item)
        with run_faults(folder), Lease(folder) as lease:
            if is_scored(folder, item):
                log(f"{what} {item.folder}: complete already")
                write_labelled_marker(folder, item)
            else:
                check_labelled(experiment, item)
                train(item, lease)
                log(f"{what} {item.folder}: done")

"""Scoring a probe or a finetuning on any split of any dataset with its classes: what is read. No torch, no zarr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache_schemas.errors import BadInput
from pipeline.config.training import Split
from pipeline.plan_labelled import LabelledRun, ProbeReading
from pipeline.planned import Lot, cut, identities_of, member_of

if TYPE_CHECKING:
    from pipeline.plan import Plan


@dataclass(frozen=True)
class Evaluation:
    """One run, and one split of one dataset that it is scored on.

    Attributes:
        readings: in index order; without labels where there are none.
        lots: that must be there first, scans before what is made from them.
        unlabelled: partitions that count for no score.
    """

    run: LabelledRun
    dataset: str
    split: Split
    readings: tuple[ProbeReading, ...]
    lots: tuple[Lot, ...]
    unlabelled: tuple[str, ...]


def plan_evaluation(plan: Plan, run: LabelledRun, dataset: str, split: Split) -> Evaluation:
    """What scoring a run reads.

    Raises:
        BadInput: if the dataset has other classes than the run, or nothing in the split; or for the teacher's own features,
            which only points that cameras see have.
    """
    if run.kind == "teacher":
        raise BadInput(
            f"{run.folder} is the teacher itself, which sees no whole scan; give a probe of a student"
        )
    own = plan.traits[run.train[0].dataset].classes
    if plan.traits[dataset].classes != own:
        raise BadInput(
            f"dataset {dataset} has other classes ({len(plan.traits[dataset].classes)}) than {run.train[0].dataset} "
            f"({len(own)}), from which {run.folder} learnt them; give a dataset with the same"
        )
    student = run.student.model_copy(update={"points": run.points})
    stores = plan.stores(dataset, student)
    (scans,), (labels,), (full,) = (stores[stage] for stage in ("scans", "labels", "full_scans"))
    entries = plan.entries("--split", dataset, split)
    made_for = identities_of(stores)
    labelled = [entry for entry in entries if entry.members["labels"]]
    about = plan.config.lot_partitions
    return Evaluation(
        run,
        dataset,
        split,
        tuple(
            ProbeReading(
                dataset,
                split,
                entry.name,
                member_of(scans, entry),
                member_of(labels, entry) if entry.members["labels"] else None,
                member_of(full, entry),
                identities=made_for,
            )
            for entry in entries
        ),
        (
            *cut(scans, split, entries, about),
            *cut(labels, split, labelled, about),
            *cut(full, split, entries, about),
        ),
        tuple(entry.name for entry in entries if not entry.members["labels"]),
    )

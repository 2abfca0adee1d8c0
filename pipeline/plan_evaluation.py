"""Scoring what has classes on any split of any dataset with these: what is read. No torch, no zarr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.training import Split
from pipeline.plan_labelled import ProbeReading
from pipeline.planned import Lot, cut, identities_of, member_of
from pipeline.scored import Scored

if TYPE_CHECKING:
    from pipeline.plan import Plan


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and one split of one dataset that it is scored on.

    Attributes:
        readings: in index order; without labels where there are none.
        lots: that must be there first, scans before what is made from them.
        unlabelled: partitions that count for no score.
    """

    scored: Scored
    dataset: str
    split: Split
    readings: tuple[ProbeReading, ...]
    lots: tuple[Lot, ...]
    unlabelled: tuple[str, ...]


def plan_evaluation(plan: Plan, scored: Scored, dataset: str, split: Split) -> Evaluation:
    """What scoring reads.

    Raises:
        BadInput: if the dataset has other classes, or nothing in the split.
    """
    scored.check_classes(dataset, plan.traits[dataset].classes)
    student = scored.student.model_copy(update={"points": scored.points})
    stores = plan.stores(dataset, student)
    (scans,), (labels,), (full,) = (stores[stage] for stage in ("scans", "labels", "full_scans"))
    entries = plan.entries("--split", dataset, split)
    made_for = identities_of(stores)
    labelled = [entry for entry in entries if entry.members["labels"]]
    about = plan.config.lot_partitions
    return Evaluation(
        scored,
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

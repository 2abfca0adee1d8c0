"""What is to be read and the cache lacks: counted, the first few named, with the commands that compute it.

Looks for manifests by name, one listing a store's folder; whether a partition is whole is seen when it is opened. No torch,
no zarr.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledRun, ProbeReading
from pipeline.plan.parts import STAGES, Lot, Member, Reading, Run

COMMANDS = {
    "scans": "griddle scans",
    "labels": "griddle scans --labels",
    "views": "griddle views",
    "full_scans": "griddle views --full-scans",
    "features": "griddle features",
}
"""By stage, what computes what it lacks."""

SHOWN = 3

Wanted = tuple[str, str, str, Member]
"""Stage, dataset, partition, and where it lies."""


def check_pretraining(experiment: Experiment, run: Run) -> None:
    """Raise BadInput unless the cache has all partitions that a pretraining reads."""
    _check(experiment.cache, f"pretraining {run.name}", _of(run.readings))


def check_labelled(experiment: Experiment, run: LabelledRun) -> None:
    """Raise BadInput unless the cache has all partitions that a probe or a finetuning reads."""
    wanted = [*_of(run.train), *_of(run.evaluate)]
    if run.kind == "calibrated":
        wanted += [one for one in _of(run.run.readings) if one[0] != "features"]
    _check(experiment.cache, run.key, wanted)


def check_scans(experiment: Experiment, lot: Lot) -> None:
    """Raise BadInput unless the scan store has all partitions that a lot of views or full scans is made from."""
    store = lot.store
    wanted: list[Wanted] = [
        ("scans", store.dataset, entry.name, (store.scans.folder, str(entry.members["scans"])))
        for entry, _ in lot.members
    ]
    _check(experiment.cache, f"{store.stage} of {store.dataset} {lot.split}", wanted)


def _of(readings: Sequence[Reading] | Sequence[ProbeReading]) -> Iterator[Wanted]:
    for reading in readings:
        members: list[tuple[str, Member | None]] = [("scans", reading.scans), ("views", reading.views)]
        members += [("features", member) for member in reading.features]
        if isinstance(reading, ProbeReading):
            members += [("labels", reading.labels), ("full_scans", reading.full)]
        for stage, member in members:
            if member is not None:
                yield stage, reading.dataset, reading.partition, member


def _check(cache: Path, what: str, wanted: Iterable[Wanted]) -> None:
    listed: dict[str, set[str]] = {}
    asked: dict[tuple[str, str, str], dict[str, bool]] = {}
    for stage, dataset, partition, (folder, member) in wanted:
        if folder not in listed:
            there = (cache / folder).is_dir()
            listed[folder] = set(os.listdir(cache / folder)) if there else set()
        of_store = asked.setdefault((stage, dataset, folder), {})
        of_store[partition] = f"{partition}.{member}.json" in listed[folder]
    lacking = {
        key: [name for name, is_there in found.items() if not is_there] for key, found in asked.items()
    }
    lacking = {key: names for key, names in lacking.items() if names}
    if not lacking:
        return
    lines = []
    for key in sorted(lacking, key=lambda key: STAGES.index(key[0])):
        stage, dataset, folder = key
        names = lacking[key]
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        lines.append(f"  {len(names)} of {len(asked[key])} of {stage} of {dataset} ({folder}): {some}")
    stages = [stage for stage in STAGES if any(key[0] == stage for key in lacking)]
    commands = ", then ".join(f"`{COMMANDS[stage]}`" for stage in stages)
    raise BadInput(
        f"{what}: the cache in {cache} lacks {sum(map(len, lacking.values()))} partition(s) that it reads:\n"
        + "\n".join(lines)
        + f"\nRun {commands} with the same config; or let snakemake do all of it: `snakemake pretrain_all --cores 8`."
    )

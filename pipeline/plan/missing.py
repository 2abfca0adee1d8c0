"""The partitions that are to be read and that the cache lacks: how many, the names of the first, and the commands that
compute them.

Manifests are looked for by their names, with one listing of each store's folder. Whether a partition is whole is seen when it
is opened. No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.plan.experiment import Experiment
from pipeline.plan.labelled import LabelledReading, LabelledRun
from pipeline.plan.parts import STAGES, Lot, Member, Reading, Run, names_in

COMMANDS = {
    "scans": "griddle scans",
    "labels": "griddle scans --labels",
    "views": "griddle views",
    "full_scans": "griddle views --full-scans",
    "features": "griddle features",
}
"""By stage, the command that computes missing partitions."""

SHOWN = 3

Wanted = tuple[str, str, str, Member]
"""Stage, dataset, name, and place of one partition that is to be read."""


def check_pretraining(experiment: Experiment, run: Run) -> None:
    """Raise BadInput unless the cache has all partitions that a pretraining reads."""
    _check(experiment.cache, f"pretraining {run.name}", _wanted(run.readings))


def check_labelled(experiment: Experiment, run: LabelledRun) -> None:
    """Raise BadInput unless the cache has all partitions that a probe or a finetuning reads."""
    wanted = [*_wanted(run.train), *_wanted(run.evaluate)]
    if run.calibration_batches:
        wanted += [partition for partition in _wanted(run.run.readings) if partition[0] != "features"]
    _check(experiment.cache, run.key, wanted)


def lacking_of(experiment: Experiment, readings: Sequence[Reading] | Sequence[LabelledReading]) -> set[str]:
    """The names of the partitions of which the cache lacks something that is to be read; features of a pretraining are not
    looked for."""
    names_of = cache(names_in)
    return {
        partition
        for stage, _, partition, (folder, member) in _wanted(readings)
        if stage != "features" and f"{partition}.{member}.json" not in names_of(experiment.cache / folder)
    }


def check_scans(experiment: Experiment, lot: Lot) -> None:
    """Raise BadInput unless the scan store has all partitions that a lot of views or full scans is made from."""
    store = lot.store
    wanted: list[Wanted] = [
        ("scans", store.dataset, entry.name, (store.scans.folder, str(entry.members["scans"])))
        for entry, _ in lot.members
    ]
    _check(experiment.cache, f"{store.stage} of {store.dataset} {lot.split}", wanted)


def _wanted(readings: Sequence[Reading] | Sequence[LabelledReading]) -> Iterator[Wanted]:
    for reading in readings:
        for stage, member in reading.members:
            yield stage, reading.dataset, reading.partition, member


def _check(cache_folder: Path, what: str, wanted: Iterable[Wanted]) -> None:
    names_of = cache(names_in)
    partitions: dict[tuple[str, str, str], set[str]] = {}
    lacking: dict[tuple[str, str, str], list[str]] = {}
    for stage, dataset, partition, (folder, member) in wanted:
        key = stage, dataset, folder
        if partition in partitions.setdefault(key, set()):
            continue
        partitions[key].add(partition)
        if f"{partition}.{member}.json" not in names_of(cache_folder / folder):
            lacking.setdefault(key, []).append(partition)
    if not lacking:
        return
    lines = []
    for key in sorted(lacking, key=lambda key: STAGES.index(key[0])):
        stage, dataset, folder = key
        names = lacking[key]
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        lines.append(f"  {len(names)} of {len(partitions[key])} of {stage} of {dataset} ({folder}): {some}")
    stages = [stage for stage in STAGES if any(key[0] == stage for key in lacking)]
    commands = ", then ".join(f"`{COMMANDS[stage]}`" for stage in stages)
    raise BadInput(
        f"{what}: the cache in {cache_folder} lacks {sum(map(len, lacking.values()))} partition(s) that it reads:\n"
        + "\n".join(lines)
        + f"\nRun {commands} with the same config; or let snakemake do all of it: `snakemake pretrain_all --cores 8`."
    )

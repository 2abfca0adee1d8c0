"""How raw intensities are normalised: by published numbers, by the config's, or by those that `griddle stats` measures.

What was measured lies in `<workdir>/stats/<dataset>-<digest>.json`; the digest is of all that it was measured on.
Imports neither torch nor zarr.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cache_schemas.canonical import digest, is_as_sealed
from cache_schemas.errors import BadInput
from pipeline.datasets.index import PartitionEntry
from pipeline.plan.experiment import Experiment
from pipeline.plan.parts import Lot, Store, cut

KIND = "griddle intensity"
ALGORITHM = 1
"""Raised by hand when the same scans would give other numbers."""


@dataclass(frozen=True)
class ToMeasure:
    """A dataset whose mean and deviation of intensities nobody published: what is measured, and where the result lies.

    Attributes:
        entries: the partitions of its train split, or all of it where it has none.
        path: relative to the workdir.
    """

    dataset: str
    store: Store
    entries: tuple[PartitionEntry, ...]

    @property
    def digest(self) -> str:
        members = [[entry.name, entry.members["scans"]] for entry in self.entries]
        return digest([self.store.folder, members, ALGORITHM])

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.digest}"

    @property
    def path(self) -> str:
        return stats_file(self.dataset, self.digest)

    def lots(self, about: int) -> list[Lot]:
        """The lots of scans that it is measured on."""
        splits = dict.fromkeys(entry.split for entry in self.entries)
        return [
            lot
            for split in splits
            for lot in cut(self.store, split, [e for e in self.entries if e.split == split], about)
        ]


def stats_file(dataset: str, measured: str) -> str:
    """Where a measurement lies, relative to the workdir. measured: the digest of what it was made on."""
    return f"stats/{dataset}-{measured}.json"


def given(experiment: Experiment, dataset: str) -> tuple[float, float] | None:
    """Mean and standard deviation that are known without measuring: the config's, else the published ones."""
    return experiment.config.datasets[dataset].intensity or experiment.traits[dataset].intensity


def to_measure(experiment: Experiment, dataset: str) -> ToMeasure | None:
    """What `griddle stats` has to look at, or None where nothing has to be measured."""
    if given(experiment, dataset) is not None:
        return None
    chosen = experiment.chosen(dataset)
    entries = [entry for entry in chosen if entry.split == "train"] or chosen
    return ToMeasure(dataset, experiment.scan_store(dataset), tuple(entries))


def intensity_identities(experiment: Experiment, datasets: Iterable[str]) -> dict[str, Any]:
    """What an id holds of the normalisation, by dataset: the numbers, or the digest of what they are measured on."""
    identities: dict[str, Any] = {}
    for dataset in sorted(datasets):
        values, measured = given(experiment, dataset), to_measure(experiment, dataset)
        identities[dataset] = list(values) if values else {"measured": measured.digest if measured else None}
    return identities


def intensity_of(
    experiment: Experiment, dataset: str, recorded: Mapping[str, Any] | None = None
) -> tuple[float, float]:
    """Mean and standard deviation that normalise a dataset's intensities.

    recorded: what a training's id holds of it; where it names the dataset, this counts, and not what the dataset is today.

    Raises:
        BadInput: if they have to be measured first, or the file of what was measured is damaged.
    """
    known = (recorded or {}).get(dataset)
    values = given(experiment, dataset) if known is None else known if isinstance(known, list) else None
    if values is not None:
        mean, deviation = values
        return mean, deviation
    if known is not None:
        path = experiment.workdir / stats_file(dataset, known["measured"])
    else:
        measured = to_measure(experiment, dataset)
        assert measured is not None
        path = experiment.stats_path(measured)
    try:
        body = json.loads(path.read_bytes())
        if body["griddle"] != KIND:
            raise ValueError(f"it is a {body['griddle']!r}")
        if not is_as_sealed(body):
            raise ValueError("it does not agree with its own digest: it was changed; delete it")
        return float(body["mean"]), float(body["deviation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"dataset {dataset}: nobody published how its intensities are normalised, and {path} does not hold what was "
            f"measured ({error}). Run the same snakemake command, or `griddle stats`; or write "
            f"datasets.{dataset}.intensity: [MEAN, DEVIATION]"
        ) from error


def all_to_measure(experiment: Experiment, datasets: Iterable[str]) -> list[ToMeasure]:
    """What has to be measured of some datasets."""
    candidates = [to_measure(experiment, dataset) for dataset in datasets]
    return [measured for measured in candidates if measured is not None]


def before_intensity(experiment: Experiment, datasets: Iterable[str]) -> list[str]:
    """The files that Snakemake must make before the intensities of these datasets can be normalised."""
    return [str(experiment.stats_path(measured)) for measured in all_to_measure(experiment, datasets)]

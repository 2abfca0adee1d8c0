"""What the stores of a plan warn of: one line for each dataset and kind. From lot manifests, or those of partitions where a
lot is not done. Neither torch nor zarr."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cache_schemas.errors import DamagedCache, NoAccess
from cache_schemas.manifest import manifest_path, read_manifest
from pipeline.datasets.data_warnings import shown, summed
from pipeline.plan.experiment import Experiment
from pipeline.plan.lot_status import read_lot
from pipeline.plan.parts import STAGES, Lot, names_in
from pipeline.plan.plan import Plan

Entries = list[Mapping[str, Any]]


def warnings_of(plan: Plan) -> list[str]:
    """The warnings of all partitions that are stored, without the kinds that the config allows: a line for each dataset and kind,
    with counts and the first file."""
    experiment = plan.experiment
    noted: dict[str, dict[tuple[str, str, str], tuple[str, Entries]]] = {}
    for stage in STAGES:
        for lot in plan.lots(stage):
            allow = experiment.config.datasets[lot.store.dataset].allow
            for name, entries in _stored(experiment, lot):
                for entry in shown(entries, allow):
                    # Stores of other parameters say the same of the same files: it is said once.
                    key = (name, entry["kind"], entry["what"])
                    noted.setdefault(lot.store.dataset, {}).setdefault(key, (name, [entry]))
    return [line for dataset, by_file in noted.items() for line in summed(dataset, list(by_file.values()))]


def _stored(experiment: Experiment, lot: Lot) -> list[tuple[str, Entries]]:
    """Of each partition of a lot that has warnings, its name and its entries."""
    with suppress(
        NoAccess
    ):  # who may not read the cache gets no warnings; that it cannot be read is said elsewhere
        body = read_lot(experiment.lot_path(lot))
        if body is not None:
            return [(part["name"], part["warnings"]) for part in body["partitions"] if part.get("warnings")]
        folder = experiment.store_path(lot.store)
        names = names_in(folder)
        stored: list[tuple[str, Entries]] = []
        for entry, member in lot.members:
            path = manifest_path(folder, entry.name, member)
            if path.name in names:
                with suppress(DamagedCache):
                    manifest = read_manifest(path)
                    stored += [(entry.name, list(manifest.warnings))] if manifest.warnings else []
        return stored
    return []

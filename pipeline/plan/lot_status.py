"""Which lots are done: their manifests are compared with the cache, and removed where partitions of them are gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cache_schemas.access import access_to, is_there
from cache_schemas.canonical import digest
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import manifest_path, open_partition
from cache_schemas.publish import is_beside
from pipeline.plan.experiment import Experiment
from pipeline.plan.parts import STAGES, Lot, Store, names_in
from pipeline.plan.plan import Plan

KIND = "griddle lot"


def is_done(experiment: Experiment, store: Store, partition: str, member: str) -> bool:
    """Whether a partition need not be computed: it is valid, and it is complete, or the config says `on_error: skip`."""
    folder = experiment.store_path(store)
    if not is_there(manifest_path(folder, partition, member)):
        return False
    try:
        counts = open_partition(folder, partition, member, store.identity).counts
    except DamagedCache:
        return False
    return experiment.config.datasets[store.dataset].on_error == "skip" or not _lacks(counts)


def drop_stale_lots(plan: Plan) -> list[Path]:
    """Remove each lot manifest of this plan whose partitions are gone, so that they are computed again.

    So, too, those of partitions that lack what could not be read, where the config says `on_error: raise` (again).
    """
    experiment = plan.experiment
    names_of = cache(names_in)
    dropped: list[Path] = []
    for stage in STAGES:
        for lot in plan.lots(stage):
            path = experiment.lot_path(lot)
            if not is_there(path):
                continue
            body = read_lot(path)
            if not _stands(experiment, lot, body, names_of(experiment.store_path(lot.store))):
                path.unlink()
                dropped.append(path)
    return dropped


def members_done(experiment: Experiment, lot: Lot, names: set[str]) -> list[bool]:
    """Of each member of a lot whether the workflow will take it as done: all where the lot manifest is still true, else
    those that the stage itself would not compute. `names` are those in the store's folder."""
    if _stands(experiment, lot, read_lot(experiment.lot_path(lot)), names):
        return [True] * len(lot.members)
    return [
        f"{entry.name}.{member}.json" in names and is_done(experiment, lot.store, entry.name, member)
        for entry, member in lot.members
    ]


def _stands(experiment: Experiment, lot: Lot, body: dict[str, Any] | None, names: set[str]) -> bool:
    """Whether a lot manifest (None: gone or damaged) is still true, and names no partition that must be computed again."""
    if body is None or not _all_there(body, names):
        return False
    strict = experiment.config.datasets[lot.store.dataset].on_error == "raise"
    return not (strict and any(_lacks(p["counts"]) for p in body["partitions"]))


def read_lot(path: Path) -> dict[str, Any] | None:
    """A lot manifest that agrees with its own digest; None for one that is gone or damaged.

    Raises:
        NoAccess: if the system refuses to read it.
    """
    try:
        with access_to(path):
            body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(body, dict) or body.get("griddle") != KIND:
        return None
    sealed = {key: value for key, value in body.items() if key not in ("digest", "made")}
    return body if digest(sealed) == body.get("digest") else None


def drop_lots_naming(workdir: Path, gone: Callable[[str, str, str], bool]) -> list[Path]:
    """Remove each lot manifest of a workdir that names a partition (store folder, name, member digest) that is gone.

    Manifests that cannot be read are removed, too: the next snakemake call writes them again, and computes nothing for it.
    """
    dropped = []
    for path in sorted((workdir / "lots").glob("*/*.json")):
        if is_beside(path.name):
            continue
        body = read_lot(path)
        if body is None or any(
            gone(body["store"], p["name"], p["member_digest"]) for p in body["partitions"]
        ):
            path.unlink(missing_ok=True)
            dropped.append(path)
    return dropped


def _lacks(counts: Mapping[str, int]) -> bool:
    """Whether a partition was written without files that could not be read."""
    return counts.get("unreadable", 0) > 0


def _all_there(body: dict[str, Any], names: set[str]) -> bool:
    """Whether each partition of a lot manifest has its manifest, store and sidecar."""
    wanted = {
        f"{p['name']}.{suffix}"
        for p in body["partitions"]
        for suffix in (
            f"{p['member_digest']}.json",
            f"{p['content_digest']}.zarr",
            f"{p['content_digest']}.crc",
        )
    }
    return wanted <= names

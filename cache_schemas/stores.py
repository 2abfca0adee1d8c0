"""Every store that this version of Griddle reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cache_schemas.errors import OtherVersion
from cache_schemas.features import STORAGES, features_schema
from cache_schemas.full_scans import FULL_SCANS
from cache_schemas.manifest import Manifest
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS

RETIRED: dict[str, str] = {
    "features/2": "images that could not be read are listed in the attribute `unreadable`",
    "views/3": "the store says along which axes voxels lie",
    "views/2": "spares are no longer columns of all neighbours, but rows of those that a crop can remove",
}
"""Schemas that were written once and are no longer read, each with what was changed since. A schema that is raised
either stays in `_DECLARED` beside the new one, where the readers can still take it, or moves here."""

_DECLARED: dict[str, Callable[[dict[str, Any]], StoreSchema]] = {
    SCANS.tag: lambda identity: SCANS,
    LABELS.tag: lambda identity: LABELS,
    VIEWS.tag: lambda identity: VIEWS,
    FULL_SCANS.tag: lambda identity: FULL_SCANS,
    features_schema(STORAGES[0]).tag: lambda identity: features_schema(
        str(identity.get("storage", STORAGES[0]))
    ),
}
"""From a schema's tag to the schema of a store with this identity."""


def declared() -> dict[str, StoreSchema]:
    """All schemas by a name of their own: the tag, and where one tag has several, how values are stored."""
    features = {f"{features_schema(storage).tag} {storage}": features_schema(storage) for storage in STORAGES}
    return {SCANS.tag: SCANS, LABELS.tag: LABELS, VIEWS.tag: VIEWS, FULL_SCANS.tag: FULL_SCANS, **features}


def schema_of(manifest: Manifest) -> StoreSchema:
    """The schema by which a partition is read.

    Raises:
        OtherVersion: if it is of a version that this one does not read, naming both, and what to do.
    """
    tag = manifest.body["schema"]
    if tag in _DECLARED:
        return _DECLARED[tag](manifest.body["identity"])
    store = tag.split("/")[0]
    read = ", ".join(known for known in _DECLARED if known.startswith(f"{store}/")) or "no store of that name"
    if tag in RETIRED:
        raise OtherVersion(
            f"{manifest.path} is of schema {tag}; this version of Griddle reads {read} ({RETIRED[tag]}).\n"
            f"Run the same snakemake command again: it computes the store anew, in a folder beside this one."
        )
    raise OtherVersion(
        f"{manifest.path} is of schema {tag}; this version of Griddle reads {read}.\n"
        f"Another version wrote it: install that one to read this store, or run the same snakemake command again with "
        f"this one, which computes the store anew, in a folder beside this one."
    )

"""From what a manifest says to the schema that declares it."""

from __future__ import annotations

from cache_schemas.errors import DamagedCache
from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest, mending
from cache_schemas.scans import LABELS, SCANS
from cache_schemas.schema import StoreSchema
from cache_schemas.views import VIEWS


def schema_of(manifest: Manifest) -> StoreSchema:
    """The schema of a partition.

    Raises:
        DamagedCache: naming both versions, if this version of Griddle reads another one, or no such store.
    """
    tag = str(manifest.body["schema"])
    if tag.split("/")[0] == "features":
        known = features_schema(str(manifest.body["identity"].get("storage", "float16")))
    else:
        known = {"scans": SCANS, "labels": LABELS, "views": VIEWS}.get(tag.split("/")[0], SCANS)
    if tag != known.tag:
        raise DamagedCache(
            f"{manifest.path} is of schema {tag}; this version of Griddle reads {known.tag}.\n"
            f"{mending(manifest.path)}"
        )
    return known

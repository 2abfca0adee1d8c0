"""Whether the stores of one partition belong together: the same scans with the same points, the same images."""

from __future__ import annotations

import numpy as np

from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import mending
from cache_schemas.reading import PartitionReader
from cache_schemas.sources import digest_of_sources


def check_same_scans(store: PartitionReader, scans: PartitionReader) -> None:
    """Refuse labels or views of other scans, or of scans with other points, than the scan store's.

    Raises:
        DamagedCache: naming the first scan that differs, and both values.
    """
    attributes = store.attributes
    theirs, ours = list(attributes["scans"]), list(scans.attributes["scans"])
    _check_lists("scan", store, scans, theirs, ours)
    if "scan_points" in attributes:
        points = np.asarray(attributes["scan_points"])
    else:
        points = np.diff(store.read("scan_offsets").astype(np.int64))
    stored = np.diff(scans.read("scan_offsets").astype(np.int64))
    if _kind(store) in ("views", "full_scans") and _kind(scans) == "scans":
        _check_made_of(store, scans)
    for name, this, that in zip(ours, points, stored, strict=False):
        if this != that:
            raise _apart(store, scans, f"scan {name} has {this} points in the first and {that} in the second")


def _check_made_of(store: PartitionReader, scans: PartitionReader) -> None:
    """Refuse what was computed of scans that were read from other files than the scan store's are, where both recorded it."""
    then, now = digest_of_sources(store.manifest), digest_of_sources(scans.manifest)
    if None not in (then, now) and then != now:
        raise _apart(
            store, scans, "the lidar files held something else when the scans of the first were read"
        )


def _kind(store: PartitionReader) -> str:
    return str(store.manifest.body["schema"]).split("/")[0]


def check_same_images(views: PartitionReader, features: PartitionReader) -> None:
    """Refuse patch grids of other images than those of the views.

    Raises:
        DamagedCache: naming the first image that differs, and both values.
    """
    _check_lists("image", views, features, views.attributes["images"], features.attributes["images"])


def _check_lists(
    kind: str, first: PartitionReader, second: PartitionReader, a: list[str], b: list[str]
) -> None:
    """Refuse stores that list other scans or images, `a` and `b`. kind: `scan` or `image`."""
    if a == b:
        return
    if len(a) != len(b):
        difference = f"{len(a)} in the first, {len(b)} in the second"
    else:
        place = next(number for number, names in enumerate(zip(a, b, strict=True)) if names[0] != names[1])
        difference = f"{kind} {place} is {a[place]} in the first and {b[place]} in the second"
    raise _apart(first, second, f"they list other {kind}s: {difference}")


def _apart(first: PartitionReader, second: PartitionReader, why: str) -> DamagedCache:
    return DamagedCache(
        f"the stores of {first.manifest.partition} do not belong together ({first.manifest.path} and "
        f"{second.manifest.path}): {why}.\n{mending(first.manifest.path)}"
    )

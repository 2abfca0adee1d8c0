"""Removing partitions from a cache. The manifest goes first, so that no reader opens a store that is being deleted."""

from __future__ import annotations

from pathlib import Path

from cache_schemas.contents import NAME, named_by, size_of
from cache_schemas.publish import is_beside, remove_tree


def remove_partition(folder: Path, partition: str, member_digest: str) -> tuple[int, int]:
    """Remove one version of a partition, and the store that no other version of it names; (bytes, files) freed."""
    manifest = folder / f"{partition}.{member_digest}.json"
    freed = size_of(manifest)
    remove_tree(manifest)
    more = remove_unnamed(folder, partition)
    return freed[0] + more[0], freed[1] + more[1]


def remove_unnamed(folder: Path, partition: str) -> tuple[int, int]:
    """Remove a partition's stores and sidecars that no readable manifest of it names; (bytes, files) freed."""
    parts = [(path, NAME.fullmatch(path.name)) for path in folder.glob(f"{partition}.*")]
    entries = [
        (path, match)
        for path, match in parts
        if match and match["partition"] == partition and not is_beside(path.name)
    ]
    named = named_by([path for path, match in entries if match["kind"] == "json"])
    total = files = 0
    for path, match in entries:
        if match["kind"] != "json" and path not in named:
            size, count = size_of(path)
            total, files = total + size, files + count
            remove_tree(path)
    return total, files

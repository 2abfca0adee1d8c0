"""What in a cache no config refers to: old versions, other ids, and leftovers of killed or mended work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cache_schemas.contents import NAME, StoreFolder, list_store, readable, size_of, store_folders
from cache_schemas.disk import writing_to
from cache_schemas.publish import is_aside, remove_tree, writer_is_dead
from cache_schemas.removal import remove_partition, remove_unnamed
from pipeline.cache.listing import wanted_members
from pipeline.plan.lot_status import drop_lots_naming
from pipeline.plan.plan import Plan


@dataclass(frozen=True)
class Unreferenced:
    """A partition or a leftover that can be deleted.

    Attributes:
        kind: `partition`, or of a leftover `damaged` (set aside when it was mended), `unfinished` (of a writer that was
            killed) or `unnamed` (a store or sidecar whose manifest was removed or never written).
        path: the manifest of a partition, else the file or folder itself.
        bytes, files: what is freed. Files that another version of the partition shares are not counted.
    """

    kind: str
    store: StoreFolder
    path: Path
    bytes: int
    files: int


def unreferenced(cache: Path, plans: Sequence[Plan], older_than_hours: float) -> list[Unreferenced]:
    """All that no plan wants, store by store.

    Args:
        older_than_hours: the least age of leftovers whose writer may still run. Leftovers of a dead process of this host
            are listed at any age.
    """
    wanted = {
        (store.folder, entry.name, member) for plan in plans for store, entry, member in wanted_members(plan)
    }
    oldest = time.time() - 3600 * older_than_hours
    return [item for store in store_folders(cache) for item in _of_store(store, wanted, oldest)]


def delete_unreferenced(
    cache: Path, items: Sequence[Unreferenced], workdirs: Sequence[Path]
) -> tuple[int, int]:
    """Remove the items, manifests first, then empty store folders and the lot manifests that named them.

    Returns the freed (bytes, files).
    """
    total = files = 0
    gone: set[tuple[str, str, str]] = set()
    for item in items:
        name = NAME.fullmatch(item.path.name)
        with writing_to(item.store.path):
            if item.kind == "partition" and name:
                freed = remove_partition(item.store.path, name["partition"], name["digest"])
                gone.add((item.store.folder, name["partition"], name["digest"]))
            elif item.kind == "unnamed" and name:
                freed = remove_unnamed(item.store.path, name["partition"])
            else:
                freed = item.bytes, item.files
                remove_tree(item.path)
        total, files = total + freed[0], files + freed[1]
    for store in dict.fromkeys(item.store for item in items):
        for folder in (store.path, store.path.parent):
            with suppress(OSError):  # not empty
                if folder != cache:
                    folder.rmdir()
    for workdir in dict.fromkeys(workdirs):
        drop_lots_naming(workdir, lambda *member: member in gone)
    return total, files


def _of_store(store: StoreFolder, wanted: set[tuple[str, str, str]], oldest: float) -> Iterator[Unreferenced]:
    listing = list_store(store)
    kept: list[Path] = []
    others: list[Path] = []
    for path in listing.manifests:
        name = NAME.fullmatch(path.name)
        assert name is not None
        is_wanted = (store.folder, name["partition"], name["digest"]) in wanted
        (kept if is_wanted else others).append(path)
    shared = {path for manifest in readable(kept) for path in (manifest.store, manifest.sidecar)}
    for path in others:
        size, files = size_of(path)
        for manifest in readable([path]):
            for part in {manifest.store, manifest.sidecar} - shared:
                more = size_of(part)
                size, files = size + more[0], files + more[1]
            shared |= {manifest.store, manifest.sidecar}  # content that two versions share is freed once
        yield Unreferenced("partition", store, path, size, files)
    for path in listing.beside:
        if is_aside(path.name) or writer_is_dead(path.name) or _changed(path) < oldest:
            yield Unreferenced(
                "damaged" if is_aside(path.name) else "unfinished", store, path, *size_of(path)
            )
    for path in listing.unnamed:
        if _changed(path) < oldest:
            yield Unreferenced("unnamed", store, path, *size_of(path))


def _changed(path: Path) -> float:
    """When it was last written or renamed; now, if it has just vanished."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return time.time()

"""What a folder or file of a cache is, judged by its place: the cache, a store, a file of a partition, or a leftover."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache_schemas.canonical import sha256_file
from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest, mending, read_manifest
from cache_schemas.places import PLACES
from cache_schemas.publish import WRITING

if TYPE_CHECKING:
    from pipeline.cache.open_store import OpenedStore

Facts = dict[str, Any]

_UNFINISHED = re.compile(rf"{re.escape(WRITING)}-(?P<of>.*)-(?P<host>[^-]+)-(?P<pid>\d+)-[0-9a-f]{{8}}")
_ASIDE = re.compile(r"(?P<of>.*)\.damaged-[0-9a-f]{8}")
WEIGHTS_LOCK = ("weights.lock.json", ".weights.lock.json.lock", "weights.tensors.json")


def manifest_beside(path: Path) -> Manifest:
    """The manifest that names a store or sidecar.

    Raises:
        BadInput: if there is none.
        DamagedCache: if it is not what was written.
    """
    partition, content = path.name.rsplit(".", 2)[:2]
    for candidate in sorted(path.parent.glob(f"{partition}.*.json")):
        manifest = read_manifest(candidate)
        if manifest.content_digest == content:
            return manifest
    raise BadInput(f"{path}: no manifest beside it names it; it was replaced, or never published. It can go.")


def of_partition(path: Path) -> Facts | None:
    """The facts of a file in a partition's group, or of a leftover; else None."""
    return _left(path) or _in_group(path)


def _left(path: Path) -> Facts | None:
    """The facts of unfinished work of a running or killed process, or of a file that was set aside as damaged."""
    for part in (path, *path.parents):
        if match := _UNFINISHED.fullmatch(part.name):
            return {
                "what": "griddle work in progress, or left by a process that was killed",
                "of": match["of"],
                "host": match["host"],
                "pid": int(match["pid"]),
                "goes": "when that process ends; if it is dead, when the same is computed again on that host",
            }
        if match := _ASIDE.fullmatch(part.name):
            return {
                "what": "griddle file that was found damaged and set aside",
                "of": match["of"],
                "goes": "when you delete it: nothing reads it",
            }
    return None


def _in_group(path: Path) -> Facts | None:
    """A file or folder of a partition's Zarr group."""
    store = next((parent for parent in path.parents if parent.suffix == ".zarr"), None)
    if store is None:
        return None
    manifest = manifest_beside(store)
    name = path.relative_to(store).as_posix()
    facts: Facts = {"what": "part of a griddle partition", "partition": manifest.partition}
    facts |= {"schema": manifest.body["schema"], "manifest": str(manifest.path)}
    array = path.relative_to(store).parts[0]
    if array in manifest.body["crc"]["arrays"]:
        facts["array"] = array
    if path.is_dir():
        return facts
    entry = manifest.body["files"].get(name)
    if entry is None:
        return {**facts, "as_written": False, "problem": "its manifest lists no such file; delete it"}
    sound = path.stat().st_size == entry["size"] and sha256_file(path) == entry["sha256"]
    facts |= {"kind": "metadata" if path.name == "zarr.json" else "shard", **entry, "as_written": sound}
    return facts if sound else {**facts, "problem": mending(manifest.path)}


def of_cache(path: Path) -> Facts | None:
    """The cache itself, a store, a folder between the two, or the teachers' weights."""
    from pipeline.cache.open_cache import find_stores

    kinds = {place.split("/")[0] for place in PLACES.values()}
    for root in (path, *path.parents):
        below = path.relative_to(root).parts
        if below and below[0] not in (*kinds, *WEIGHTS_LOCK):
            continue
        stores = find_stores(root) if any((root / kind).is_dir() for kind in kinds) else []
        for store in stores:
            if store.folder == path:
                what = {"what": "griddle store", "name": store.name, "cache": str(root)}
                return {**what, **_store(store), "identity": store.identity}
        below_path = {store.name: _store(store) for store in stores if path in store.folder.parents}
        if below_path:
            what = (
                {"what": "folder of a griddle cache", "cache": str(root)}
                if below
                else {"what": "griddle cache"}
            )
            return {
                **what,
                "bytes": sum(store["bytes"] for store in below_path.values()),
                "stores": below_path,
            }
        if stores and path.name in WEIGHTS_LOCK:
            return weights_lock(path)
    return None


def weights_lock(path: Path) -> Facts:
    """The record of the teachers' weights. It is in the cache, or in the workdir if the cache is read-only."""
    if path.suffix == ".lock":
        return {"what": "griddle lock, held while the weights of a teacher are recorded"}
    return {"what": "griddle record of the teachers' weights", "weights": json.loads(path.read_bytes())}


def _store(store: OpenedStore) -> Facts:
    return {
        "kind": store.kind,
        "dataset": store.dataset,
        "schema": store.schema,
        "partitions": len(store.partitions),
        "bytes": store.bytes,
        "counts": store.counts,
        "left_out": sum(len(items) for items in store.left_out.values()),
        "older": store.older,
    }

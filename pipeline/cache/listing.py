"""What a cache holds, store by store: counts and bytes, and how many of the partitions a config wants."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache_schemas.contents import list_store, readable, size_of, store_folders
from pipeline.datasets.index import PartitionEntry
from pipeline.plan.parts import STAGES, Store
from pipeline.plan.plan import Plan


def wanted_members(plan: Plan) -> Iterator[tuple[Store, PartitionEntry, str]]:
    """For each partition that a plan wants its store, its entry in the index, and its member digest. Some come twice."""
    for stage in STAGES:
        for lot in plan.lots(stage):
            for entry, member in lot.members:
                yield lot.store, entry, member


def list_cache(cache: Path, plan: Plan | None) -> list[dict[str, Any]]:
    """One row for each store, from its manifests: partitions, how many of them the plan wants, counts, bytes and files."""
    wanted = {
        f"{store.folder}/{entry.name}.{member}.json"
        for store, entry, member in (wanted_members(plan) if plan is not None else ())
    }
    rows = []
    for store in store_folders(cache):
        listing = list_store(store)
        counts: Counter[str] = Counter()
        size = files = left_out = 0
        identity: dict[str, Any] = {}
        for manifest in readable(listing.manifests):
            counts.update(manifest.counts)
            size += manifest.bytes + manifest.body["crc"]["size"]
            files += len(manifest.body["files"]) + 2
            left_out += len(manifest.left_out)
            identity = manifest.body["identity"]
        rows.append(
            {
                "stage": store.stage,
                "store": store.folder,
                "partitions": len(listing.manifests),
                "wanted": sum(f"{store.folder}/{p.name}" in wanted for p in listing.manifests)
                if plan is not None
                else None,
                "counts": dict(counts),
                "left_out": left_out,
                "bytes": size,
                "files": files,
                "leftovers": len(listing.unnamed) + len(listing.beside) + len(listing.foreign),
                "identity": identity,
            }
        )
    return rows


def measure_cache(cache: Path) -> dict[str, Any]:
    """Bytes and files on the disk, store by store, without asking the manifests, and the free space."""
    stores = []
    for store in store_folders(cache):
        skip = {"labels"} if store.stage == "scans" else set()
        parts = [size_of(store.path / name) for name in os.listdir(store.path) if name not in skip]
        stores.append(
            {
                "stage": store.stage,
                "store": store.folder,
                "bytes": sum(size for size, _ in parts),
                "files": sum(files for _, files in parts),
            }
        )
    size, files = size_of(cache)
    return {
        "cache": str(cache),
        "stores": stores,
        "bytes": size,
        "files": files,
        "free_bytes": shutil.disk_usage(cache).free,
    }

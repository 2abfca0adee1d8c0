"""Comparing the files of the datasets with what the stores were made of, and the tables of the datasets with the index.

Every file is read whole, whatever its time. What differs is no damage: the cache is sound, of other files than lie there now.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, manifest_path, read_manifest
from cache_schemas.sources import Content, content_of, sources_of, stamp_of
from pipeline.cache.listing import wanted_members
from pipeline.common.progress import Progress
from pipeline.datasets.changed_files import files_of, without_contents
from pipeline.datasets.held import Held
from pipeline.datasets.index import Index
from pipeline.datasets.known_contents import KnownContents, locked
from pipeline.datasets.records import PartitionRecord
from pipeline.plan.plan import Plan


@dataclass
class ComparedSources:
    """What files of datasets hold, beside what stores were made of.

    Attributes:
        partitions: of stores, whose files were compared.
        files, bytes: that were read.
        changed: files that hold something else, with the store folders that were made of what was there before.
        lost: files that cannot be read, with the reason.
        other_records: partitions of which the dataset's tables, names or sizes say something else than the index.
        unrecorded: manifests of partitions that did not record what they were made of.
        newer: how many files of these have a later time than their partition.
        unnoted: why what was seen could not be noted beside the index.
    """

    partitions: int = 0
    files: int = 0
    bytes: int = 0
    changed: dict[Path, list[str]] = field(default_factory=dict)
    lost: dict[Path, str] = field(default_factory=dict)
    other_records: list[str] = field(default_factory=list)
    unrecorded: list[Path] = field(default_factory=list)
    newer: int = 0
    unnoted: str | None = None

    @property
    def all_same(self) -> bool:
        return not (self.changed or self.lost or self.other_records)

    def facts(self) -> dict[str, Any]:
        return {
            "partitions": self.partitions,
            "files": self.files,
            "bytes": self.bytes,
            "changed": {str(path): stores for path, stores in self.changed.items()},
            "lost": {str(path): why for path, why in self.lost.items()},
            "other_records": self.other_records,
            "unrecorded": [str(path) for path in self.unrecorded],
            "newer": self.newer,
            "unnoted": self.unnoted,
        }


def compare_sources(plan: Plan, paths: Sequence[Path] = (), threads: int = 2) -> ComparedSources:
    """Compare all files that the plan's stores were made of, or those of `paths`: stores or manifests.

    The content of files that differ is noted beside the index: `griddle index --force` then knows, even where their times did
    not change.

    Raises:
        BadInput: if a dataset cannot be read.
        NoAccess: if the system refuses to read a manifest.
    """
    result = ComparedSources()
    for name, index in plan.experiment.indices.items():
        if not paths:
            result.other_records += _other_records(plan, name, index)
        _compare_files(plan, name, index, paths, threads, result)
    return result


def _other_records(plan: Plan, name: str, index: Index) -> list[str]:
    """What the dataset says today that the index does not: partitions that are new, gone, or of other records."""
    entries = {entry.name: entry for entry in index.partitions}
    other = []
    for part in Held(name, plan.experiment.config.datasets[name]):
        entry = entries.pop(part.name, None)
        if entry is None:
            other.append(f"{name} {part.name}: the index does not have it")
        elif _indexed(without_contents(index.load_partition(entry))) != _indexed(part):
            other.append(
                f"{name} {part.name}: its files, their sizes or its calibration are not those of the index"
            )
    return other + [f"{name} {gone}: the dataset has it no more" for gone in entries]


def _indexed(partition: PartitionRecord) -> tuple[Any, ...]:
    """What of a record the stores rest on."""
    return partition.split, partition.problem, partition.member_digests()


def _compare_files(
    plan: Plan, name: str, index: Index, paths: Sequence[Path], threads: int, result: ComparedSources
) -> None:
    root = Path(plan.experiment.config.datasets[name].root)
    made_of: dict[str, dict[str, str]] = {}  # by file, by store folder: the digest
    seen: set[Path] = set()
    changed: set[str] = set()
    for store, entry, member in wanted_members(plan):
        path = manifest_path(plan.experiment.store_path(store), entry.name, member)
        if store.dataset != name or path in seen or not path.exists():
            continue
        if paths and not any(path.absolute().is_relative_to(wanted.absolute()) for wanted in paths):
            continue
        seen.add(path)
        try:
            manifest = read_manifest(path)
        except DamagedCache:
            continue  # `verify` says so
        record, sources = index.load_partition(entry), sources_of(manifest)
        if sources is None:
            result.unrecorded.append(path)
            result.newer += _newer(root, record, store.stage, manifest)
            continue
        result.partitions += 1
        for file, content in zip(files_of(record, store.stage), sources, strict=True):
            if file is not None and content is not None:
                made_of.setdefault(file, {})[store.folder] = content.digest
    now_held: dict[str, Content] = {}
    progress = Progress(len(made_of), "files")
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for file, now in zip(made_of, pool.map(lambda file: _content(root / file), made_of), strict=True):
            if isinstance(now, str):
                result.lost[root / file] = now
                continue
            result.files += 1
            size = now.stamp[2] if now.stamp else 0
            result.bytes += size
            progress.add(name, 1, size)
            now_held[file] = now
            stores = [folder for folder, digest in made_of[file].items() if digest != now.digest]
            if stores:
                result.changed[root / file] = stores
                changed.add(file)
    try:
        with locked(index.folder):  # `griddle index` may have learnt something meanwhile
            known = KnownContents.load(index.folder, plan.experiment.cache, name)
            news = {file: now for file, now in now_held.items() if file in changed or file in known.looked_at}
            if any(known.looked_at.get(file) != now for file, now in news.items()):
                known.looked_at |= news
                known.save()
    except OSError as error:  # a workdir that may only be read
        if changed:
            result.unnoted = error.strerror or str(error)


def _content(path: Path) -> Content | str:
    """What a file holds, or why it cannot be read."""
    try:
        return content_of(path)
    except OSError as error:
        return error.strerror or str(error)


def _newer(root: Path, record: PartitionRecord, stage: str, manifest: Manifest) -> int:
    """How many files have a later time than the partition that was made of them. Copied files may, too."""
    made = calendar.timegm(time.strptime(manifest.body["made"]["time"], "%Y-%m-%dT%H:%M:%SZ"))
    count = 0
    for file in files_of(record, stage):
        try:
            count += file is not None and stamp_of(root / file)[0] > (made + 1) * 10**9
        except OSError:
            continue
    return count

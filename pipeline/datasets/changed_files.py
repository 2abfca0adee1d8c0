"""Which files of a dataset hold something else than the stores were made of: a corrected release may have the same sizes.

A file's time is the cue. Where it is not the one that a store recorded, the file is read and its content compared. Unchanged
content changes nothing. Changed content enters the record, and with it the member digests of the stores that read the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cache_schemas.access import names_in
from cache_schemas.canonical import digest
from cache_schemas.contents import store_folders
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import manifest_path, read_manifest
from cache_schemas.sources import Content, Stamp, content_of, sources_of, stamp_of
from pipeline.common.log import log
from pipeline.common.parallel import for_each
from pipeline.datasets.known_contents import KnownContents
from pipeline.datasets.records import PartitionRecord

SPEAK_EVERY = 10.0
"""Seconds between two lines about a comparison that takes long."""


def files_of(partition: PartitionRecord, stage: str) -> list[str | None]:
    """The files that a stage's store is made of, relative to the root, in the order of a manifest's `sources`: one for each scan or
    image; of labels first their own files, then those of the lidar, with whose points they go."""
    if stage == "features":
        return [image.path for image in partition.images]
    lidar: list[str | None] = [scan.path for scan in partition.scans]
    if stage == "labels":
        return [*(scan.label_path for scan in partition.scans), *lidar]
    return lidar


class MadeOf:
    """What the stores of a dataset in a cache were made of.

    Raises:
        NoAccess: if the system refuses to list a folder.
    """

    def __init__(self, cache: Path, dataset: str) -> None:
        self._stores = [
            (store.stage, store.path, frozenset(names_in(store.path)))
            for store in store_folders(cache)
            if store.place.dataset == dataset
        ]

    def files(self, partition: PartitionRecord) -> dict[str, list[Content]]:
        """By path, what partitions were made of whose member digest does not name content. A damaged one is made anew."""
        contents: dict[str, list[Content]] = {}
        members = partition.member_digests()
        for stage, folder, names in self._stores:
            member = members["scans" if stage == "full_scans" else stage]
            if member is None or f"{partition.name}.{member}.json" not in names:
                continue
            try:
                sources = sources_of(read_manifest(manifest_path(folder, partition.name, member)))
            except DamagedCache:
                continue
            for path, content in zip(files_of(partition, stage), sources or (), strict=False):
                if path is not None and content is not None:
                    contents.setdefault(path, []).append(content)
        return contents


class Comparison:
    """Files compared with what stores were made of, partition by partition.

    Attributes:
        changed: by partition, the files that hold something else, relative to the root.
    """

    def __init__(self, dataset: str, root: Path, made_of: MadeOf, known: KnownContents) -> None:
        self._dataset, self._root, self._made_of, self._known = dataset, root, made_of, known
        self._read = self._bytes = 0
        self._spoken = time.monotonic()
        place = str(root.resolve())
        self._same_root, known.root = known.root == place, place
        self.changed: dict[str, list[str]] = {}

    def of(self, partition: PartitionRecord) -> PartitionRecord:
        """The partition's record with the content of those files that hold something else."""
        made_of, first = self._made_of.files(partition), self._known.first
        stamps = {path: _stamp_of(f"{self._root}/{path}") for path in _all_files(partition)}
        touched = self._is_touched(partition, stamps)
        paths = [path for path in stamps if path in made_of or path in first]
        now = {
            path: self._by_its_time(path, stamps[path], made_of.get(path, ()), touched=touched)
            for path in paths
        }
        unknown = [path for path, content in now.items() if content is None and stamps[path] is not None]
        for path, content in zip(unknown, for_each(self._content, unknown) if unknown else (), strict=True):
            now[path] = content
            if content is not None:
                self._known.looked_at[path] = content
                self._count(content)
        changed = {
            path: content.digest
            for path, content in now.items()
            if content is not None
            and self._known.note_if_changed(
                path, [then.digest for then in made_of.get(path, ())], content.digest
            )
        }
        if not changed:
            return partition
        self.changed[partition.name] = sorted(changed)
        return _with_contents(partition, changed)

    def _is_touched(self, partition: PartitionRecord, stamps: Mapping[str, Stamp | None]) -> bool:
        """Whether a file of a partition was replaced or written since the last index of this root, whatever its time says."""
        value = digest([[path, stamp] for path, stamp in stamps.items()])
        before = self._known.stamps.get(partition.name)
        self._known.stamps[partition.name] = value
        return self._same_root and before is not None and before != value

    def say(self) -> None:
        """Log how many files were read, and which hold something else."""
        if self._read:
            log(
                f"  {self._dataset}: {self._read:,} file(s) may have changed since the cache was made of them: "
                f"their content was compared ({self._bytes / 1e6:,.1f} MB)"
            )
        paths = [path for files in self.changed.values() for path in files]
        if paths:
            log(
                f"  {self._dataset}: {len(paths):,} file(s) of {len(self.changed)} partition(s) hold something else than the "
                f"cache was made of: {', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''}. What was made of them is "
                f"computed anew; what was there stays until `griddle cache gc`"
            )

    def _by_its_time(
        self, path: str, stamp: Stamp | None, before: Sequence[Content], *, touched: bool
    ) -> Content | None:
        """What a file holds, by its stamp alone; None where that does not say."""
        if stamp is None:
            return None
        if (content := self._known.content(path, stamp)) is not None:
            return content
        times, digests = {then.time for then in before}, {then.digest for then in before}
        if not touched and path not in self._known.first and times == {stamp[0]} and len(digests) == 1:
            return before[0]
        return None

    def _content(self, path: str) -> Content | None:
        """What a file holds; None if it is gone: the stage that reads it says so."""
        try:
            return content_of(self._root / path)
        except OSError:
            return None

    def _count(self, content: Content) -> None:
        self._read += 1
        self._bytes += content.stamp[2] if content.stamp else 0
        if time.monotonic() - self._spoken > SPEAK_EVERY:
            self._spoken = time.monotonic()
            log(
                f"  {self._dataset}: comparing the content of files that may have changed: {self._read:,} so far, "
                f"{self._bytes / 1e6:,.0f} MB"
            )


def _all_files(partition: PartitionRecord) -> Iterator[str]:
    for stage in ("scans", "labels", "features"):
        yield from (path for path in files_of(partition, stage) if path is not None)


def _stamp_of(path: str) -> Stamp | None:
    """None for a file that is gone or cannot be reached: the stage that reads it says so."""
    try:
        return stamp_of(path)
    except OSError:
        return None


def _with_contents(partition: PartitionRecord, changed: Mapping[str, str]) -> PartitionRecord:
    scans = tuple(
        replace(
            scan,
            content=changed.get(scan.path),
            label_content=changed.get(scan.label_path or ""),
            images=tuple(replace(image, content=changed.get(image.path)) for image in scan.images),
        )
        for scan in partition.scans
    )
    return replace(partition, scans=scans)


def without_contents(partition: PartitionRecord) -> PartitionRecord:
    """A record as a reader gives it."""
    return _with_contents(partition, {})

"""What lies in a cache: its store folders, their partitions, and what is left over."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from cache_schemas.access import access_to, names_in
from cache_schemas.canonical import ID_LENGTH
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, read_manifest
from cache_schemas.places import PARTITION_NAME, PLACES, Place, place_of
from cache_schemas.publish import is_beside

NAME = re.compile(
    rf"(?P<partition>{PARTITION_NAME.pattern})\.(?P<digest>[0-9a-f]{{{ID_LENGTH}}})\.(?P<kind>json|zarr|crc)"
)


@dataclass(frozen=True)
class StoreFolder:
    """One store of one dataset: the folder that holds its partitions.

    Attributes:
        folder: relative to the cache.
    """

    cache: Path
    stage: str
    folder: str

    @property
    def path(self) -> Path:
        return self.cache / self.folder

    @property
    def place(self) -> Place:
        """What the folder says of the store."""
        return place_of(self.stage, self.folder)


@dataclass
class Listing:
    """The names in a store folder.

    Attributes:
        manifests: of partitions.
        others: stores and sidecars of partitions.
        beside: unfinished, doomed or damaged work.
        foreign: what is none of ours.
    """

    manifests: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    beside: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)

    @cached_property
    def unnamed(self) -> list[Path]:
        """Stores and sidecars that no readable manifest names. Reads every manifest.

        Raises:
            NoAccess: if the system refuses to read one: what it names would seem to be left over.
        """
        named = named_by(self.manifests)
        return [path for path in self.others if path not in named]


def store_folders(cache: Path) -> list[StoreFolder]:
    """All store folders of a cache, stage by stage.

    Raises:
        NoAccess: if the system refuses to list a folder: then the cache would seem to hold less than it does.
    """
    folders = []
    for stage, place in PLACES.items():
        for path in _matching(cache, place.split("/")):
            if not is_beside(path.name) and path.suffix != ".zarr":
                folders.append(StoreFolder(cache, stage, str(path.relative_to(cache))))
    return folders


def _matching(folder: Path, pattern: list[str]) -> list[Path]:
    """The folders below a folder whose names match, level by level. `Path.glob` leaves out what it may not list."""
    if not pattern:
        return [folder] if stat.S_ISDIR(_mode(folder)) else []
    names = [name for name in names_in(folder) if fnmatchcase(name, pattern[0])]
    return [path for name in names for path in _matching(folder / name, pattern[1:])]


def _mode(path: Path) -> int:
    """Of a file or folder; 0 if it has vanished."""
    try:
        with access_to(path):
            return os.stat(path).st_mode
    except OSError:
        return 0


def list_store(store: StoreFolder) -> Listing:
    """What a store folder holds.

    Raises:
        NoAccess: if the system refuses to list it.
    """
    listing = Listing()
    for name in names_in(store.path):
        path, match = store.path / name, NAME.fullmatch(name)
        if is_beside(name):
            listing.beside.append(path)
        elif match and match["kind"] == "json":
            listing.manifests.append(path)
        elif match:
            listing.others.append(path)
        elif not (store.stage == "scans" and name == "labels"):
            listing.foreign.append(path)
    return listing


def readable(paths: list[Path]) -> Iterator[Manifest]:
    """Those manifests that agree with themselves."""
    for path in paths:
        try:
            yield read_manifest(path)
        except DamagedCache:
            continue


def named_by(paths: list[Path]) -> set[Path]:
    """The stores and sidecars of the manifests that can be read."""
    return {path for manifest in readable(paths) for path in (manifest.store, manifest.sidecar)}


def size_of(path: Path) -> tuple[int, int]:
    """Bytes and files of a file, or of all below a folder; what vanishes meanwhile counts nothing."""
    if not path.is_dir():
        try:
            return path.stat().st_size, 1
        except FileNotFoundError:
            return 0, 0
    total = files = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
            files += 1
    return total, files

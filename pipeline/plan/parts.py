"""What a plan is made of: stores, lots of partitions, and what one run reads. Plain values, no torch, no zarr."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cache_schemas import access
from cache_schemas.canonical import digest
from cache_schemas.places import folder_of
from pipeline.config.model import Points, Student, Teacher
from pipeline.datasets.index import PartitionEntry

STAGES = ("scans", "labels", "views", "full_scans", "features")
"""The stages that fill the cache, in the order of the data's way."""


Member = tuple[str, str]
"""Where one partition of one store lies: the store's folder, relative to the cache, and the member digest."""

Identities = Mapping[str, Mapping[str, Any]]
"""By stage, what the store of a dataset was made for."""


@dataclass(frozen=True)
class Store:
    """One store of one dataset, for one choice of what determines its bytes.

    Attributes:
        id: a name and the digest of the identity; of features the teacher's.
        identity: what determines the bytes.
        source: the block that the stage needs beside the dataset: points of a student, or a teacher.
        scan_store: that all but scans themselves belong to.
    """

    stage: str
    dataset: str
    id: str
    identity: dict[str, Any]
    source: Points | Teacher | None = None
    scan_store: Store | None = None

    @cached_property
    def folder(self) -> str:
        """Relative to the cache."""
        return folder_of(self.stage, self.id, self.dataset, self.scans.id)

    @property
    def scans(self) -> Store:
        """The scan store that it belongs to; of a scan store itself."""
        return self.scan_store or self


@dataclass(frozen=True)
class Lot:
    """The partitions of one store that one job takes."""

    store: Store
    split: str
    entries: tuple[PartitionEntry, ...]

    @property
    def members(self) -> list[tuple[PartitionEntry, str]]:
        """Each partition with its member digest for this stage."""
        members = [(entry, member_digest(entry, self.store.stage)) for entry in self.entries]
        return [(entry, member) for entry, member in members if member is not None]

    @cached_property
    def digest(self) -> str:
        return digest([self.store.stage, self.store.folder, [[e.name, m] for e, m in self.members]])

    @property
    def path(self) -> str:
        """Of its manifest, relative to the workdir."""
        return f"lots/{self.store.stage}/{self.digest}.json"


@dataclass(frozen=True)
class Reading:
    """What a run reads of one partition: the folders and member digests of its stores, one of features for each teacher.

    Attributes:
        identities: of the dataset's stores by folder, which must be those in the manifests; shared by its readings.
    """

    dataset: str
    split: str
    partition: str
    scans: Member
    views: Member
    features: tuple[Member, ...]
    identities: Identities = field(default_factory=dict, compare=False)

    @property
    def members(self) -> list[tuple[str, Member]]:
        """Each member that is read, after the stage that made it."""
        return [("scans", self.scans), ("views", self.views), *(("features", f) for f in self.features)]


@dataclass(frozen=True)
class Run:
    """One student's pretraining from one seed."""

    name: str
    student: Student
    seed: int
    identity: dict[str, Any]
    readings: tuple[Reading, ...]
    lots: tuple[Lot, ...]

    @cached_property
    def id(self) -> str:
        return digest(self.identity)

    @property
    def folder(self) -> str:
        """Relative to the workdir."""
        return f"runs/{self.name}-{self.id}"


def member_digest(entry: PartitionEntry, stage: str) -> str | None:
    """Of what a stage reads of a partition; None where there is nothing to read. Full scans are read from the scan
    store alone, and so have its members."""
    return entry.members["scans" if stage == "full_scans" else stage]


def member_of(store: Store, entry: PartitionEntry) -> Member:
    """Where a partition lies in a store that has something of it."""
    member = member_digest(entry, store.stage)
    if member is None:
        raise ValueError(f"{store.dataset} {entry.name} has nothing for the {store.stage} store")
    return store.folder, member


def names_in(folder: Path) -> set[str]:
    """The names in a store's folder; none where there is no folder.

    Raises:
        NoAccess: where the system refuses to list it.
    """
    return set(access.names_in(folder))


def identities_of(stores: Mapping[str, tuple[Store, ...]]) -> Identities:
    return {store.folder: store.identity for same_stage in stores.values() for store in same_stage}


def cut(store: Store, split: str, entries: list[PartitionEntry], about: int) -> list[Lot]:
    """Lots of about so many partitions. The digest of a partition's name says whether a lot ends with it: so one more
    partition changes one lot and no other."""
    lots: list[Lot] = []
    gathered: list[PartitionEntry] = []
    for entry in entries:
        if member_digest(entry, store.stage) is not None:
            gathered.append(entry)
        is_last = int(hashlib.sha256(entry.name.encode()).hexdigest()[:8], 16) % about == 0
        if is_last and gathered:
            lots.append(Lot(store, split, tuple(gathered)))
            gathered = []
    if gathered:
        lots.append(Lot(store, split, tuple(gathered)))
    return lots

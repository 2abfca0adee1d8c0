"""The partitions that one process keeps open: those read last, so that memory and files stay bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from cache_schemas.reading import PartitionReader
from cache_schemas.schema import StoreSchema
from pipeline.plan.labelled import ProbeReading
from pipeline.plan.parts import Member, Reading

T = TypeVar("T")

OPEN_PARTITIONS = 1024
"""Kept open at once, some 30 kilobytes each and 100 bytes more for each view: all scenes of nuScenes, where a random order
asks for another one with nearly every sample, and opening one takes longer than the sample."""


class OpenPartitions(Generic[T]):
    """Opens a partition when it is first read, in the process that reads it; closes the one not read for longest."""

    def __init__(self, open_one: Callable[[int], T]) -> None:
        self._open_one = open_one
        self._most = OPEN_PARTITIONS
        self._opened: OrderedDict[int, T] = OrderedDict()

    def __getitem__(self, number: int) -> T:
        if number not in self._opened:
            self._opened[number] = self._open_one(number)
            if len(self._opened) > self._most:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]


def open_store(
    cache: Path,
    reading: Reading | ProbeReading,
    member: Member,
    schema: StoreSchema,
    by: type[PartitionReader] = PartitionReader,
) -> PartitionReader:
    """One store of the partition that is to be read: the one where `member` lies. Its manifest goes without what opening
    alone needs, which is half of what an open partition holds in memory.

    Raises:
        DamagedCache: if it is not valid, or was made for another identity than the config's.
    """
    folder, digest = member
    opened = by(cache / folder, schema, reading.partition, digest, reading.identities.get(folder))
    opened.manifest = opened.manifest.without("files", "crc", "identity")
    return opened

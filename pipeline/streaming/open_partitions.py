"""What the three sources of samples share: opening partitions, and listing the scans that can be drawn.

Each process keeps only the partitions open that it read last, so that memory and open files stay bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cache_schemas.reading import PartitionReader
from cache_schemas.schema import StoreSchema
from pipeline.plan.labelled import LabelledReading
from pipeline.plan.parts import Member, Reading
from pipeline.streaming.scan_places import Place, Places

AnyReading = TypeVar("AnyReading", bound=Reading | LabelledReading)


class LacksFiles(Protocol):
    """The opened stores of one partition. `left_out` says which files they lack."""

    left_out: list[str]


Opened = TypeVar("Opened", bound=LacksFiles)

OPEN_PARTITIONS = 1024
"""How many partitions are kept open at once; each takes some 30 kilobytes, and 100 bytes more for each view. All scenes of
nuScenes fit. This matters because in a random order nearly every sample is of another scene, and opening a scene takes longer
than making the sample."""


class OpenPartitions(Generic[Opened]):
    """Opens a partition when a process first reads it, and closes the one that was not read for the longest time."""

    def __init__(self, open_one: Callable[[int], Opened]) -> None:
        self._open_one = open_one
        self._most = OPEN_PARTITIONS
        self._opened: OrderedDict[int, Opened] = OrderedDict()

    def __getitem__(self, number: int) -> Opened:
        if number not in self._opened:
            self._opened[number] = self._open_one(number)
            if len(self._opened) > self._most:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]


class PartitionSource(Generic[AnyReading, Opened]):
    """Random access to several partitions. A subclass says which stores of a partition are opened, and which scans of it can
    be drawn.

    Attributes:
        left_out: for each dataset, a line for each file that could not be read when the stores were written. It is known
            after `scans`.
    """

    def __init__(self, cache: Path, readings: Sequence[AnyReading]) -> None:
        self._cache, self._readings = cache, readings
        self._opened: OpenPartitions[Opened] = OpenPartitions(self._open)
        self.left_out: dict[str, list[str]] = {}

    def _open(self, number: int) -> Opened:
        """The stores of a reading."""
        raise NotImplementedError

    def _drawable(self, reading: AnyReading, opened: Opened) -> Iterator[tuple[str, Sequence[int]]]:
        """For each scan that can be drawn: its name, and the numbers of its place."""
        raise NotImplementedError

    def _places(self, make: Callable[[int, str, str, tuple[int, ...]], Place]) -> Places[Place]:
        """All scans that can be drawn, in the order of the plan. Opens every partition, and fills `left_out`."""
        left_out: dict[str, list[str]] = {}

        def rows() -> Iterator[tuple[int, str, Sequence[int]]]:
            for number, reading in enumerate(self._readings):
                opened = self._opened[number]
                left_out.setdefault(reading.dataset, []).extend(opened.left_out)
                for name, numbers in self._drawable(reading, opened):
                    yield number, name, numbers

        places = Places(make, [reading.dataset for reading in self._readings], rows())
        self.left_out = left_out
        return places


def open_store(
    cache: Path,
    reading: Reading | LabelledReading,
    member: Member,
    schema: StoreSchema,
    reader: type[PartitionReader] = PartitionReader,
) -> PartitionReader:
    """Open the store of a partition in which `member` lies.

    What of the manifest only the opening needs is dropped: it is half of the memory of an open partition.

    Raises:
        DamagedCache: if it is not valid, or was made for another identity than the config's.
    """
    folder, digest = member
    opened = reader(cache / folder, schema, reading.partition, digest, reading.identities.get(folder))
    opened.manifest = opened.manifest.without("files", "crc", "identity")
    return opened

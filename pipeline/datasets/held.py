"""What a dataset holds, as its reader gives it: checked, and cut into the splits that the config asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset
from pipeline.datasets.copies import Copies
from pipeline.datasets.fence import fenced, reading, shown
from pipeline.datasets.reader import AbsentPartition
from pipeline.datasets.readers import reader_named
from pipeline.datasets.record_checks import check_names, check_partition
from pipeline.datasets.records import PartitionRecord
from pipeline.datasets.splits import full_name, named_split, resplit


class Held:
    """The partitions of a dataset, read one after the other: of a full one the records fill a few hundred megabytes.

    Iterate once; then `absent`, `left_out` and `copies` are complete.

    Attributes:
        absent: partitions that the tables name and that are left out.
        copies: partitions that hold the same lidar files as another.
        left_out: PARTITION/SCAN of the scans that no pattern of the config's `splits` names.
    """

    def __init__(self, name: str, dataset: Dataset) -> None:
        self._name, self._dataset = name, dataset
        self._reader = reader_named(dataset.reader)
        self.absent: list[AbsentPartition] = []
        self.left_out: list[str] = []
        self.copies = Copies(Path(dataset.root))

    def __iter__(self) -> Iterator[PartitionRecord]:
        """In the reader's order.

        Raises:
            BadInput: for whatever the reader raises, and for what it gives that no store takes.
        """
        splits = self._dataset.splits
        for partition in self._checked():
            if isinstance(partition, AbsentPartition):
                self.absent.append(partition)
                continue
            self.copies.add(partition)
            if isinstance(splits, str):
                with reading(
                    f"datasets.{self._name}: reader {self._dataset.reader}, partition {partition.name}"
                ):
                    parts, unnamed = named_split(self._reader, splits, partition)
            else:
                parts, unnamed = resplit(partition, splits)
            self.left_out += [full_name(partition.name, scan) for scan in unnamed]
            yield from parts

    def _checked(self) -> Iterator[PartitionRecord | AbsentPartition]:
        """What the reader gives: it may be a user's own, and wrong."""
        where = f"datasets.{self._name}: reader {self._dataset.reader}"
        seen: set[str] = set()
        scans: set[str] = set()
        what = f"{where}, reading {self._dataset.root}"
        with reading(what):  # it need be no generator, and then does its work here
            partitions = self._reader.partitions(Path(self._dataset.root), self._dataset.version)
        for partition in fenced(partitions, what):
            try:
                check_partition(partition, self._reader.traits, seen)
                if isinstance(partition, PartitionRecord):
                    check_names(partition, scans)
            except ValueError as error:
                raise BadInput(f"{where}: {error}") from error
            except (TypeError, AttributeError) as error:  # values of other types than the records name
                raise BadInput(f"{where}: partition {partition.name!r:.100}: {shown(error)}") from error
            yield partition

"""All scans that can be drawn, stored as a few numbers each: a run has tens of thousands, and every worker needs them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

Place = TypeVar("Place")


class Places(Sequence[Place]):
    """A sequence of places. Each place is an object that is made when it is read.

    The columns are in shared memory, so that all workers, forked or spawned, read the same bytes. A scan takes 12 bytes,
    its name, and 2 bytes for each of its numbers (4 if any number exceeds 32,767).
    """

    def __init__(
        self,
        make: Callable[[int, str, str, tuple[int, ...]], Place],
        datasets: Sequence[str],
        rows: Iterable[tuple[int, str, Sequence[int]]],
    ) -> None:
        """`rows` are (reading, name, numbers), the readings rising; `make` gets (reading, dataset, name, numbers).

        `datasets` names each reading's dataset.
        """
        self._make = make
        self._datasets = tuple(datasets)
        reading_of, numbers, names = array("i"), array("i"), bytearray()
        number_ends, name_ends = array("i", [0]), array("i", [0])
        for reading, name, numbers_of_scan in rows:
            reading_of.append(reading)
            numbers.extend(numbers_of_scan)
            names += name.encode()
            number_ends.append(len(numbers))
            name_ends.append(len(names))
        self._reading = _shared(reading_of)
        self._numbers = _shared(numbers, narrow=True)
        self._names = _shared(names)
        self._number_ends = _shared(number_ends)
        self._name_ends = _shared(name_ends)
        self.blocks = blocks(reading_of)
        self.datasets = dict(Counter(self._datasets[reading] for reading in reading_of))
        """How many scans each dataset has, in order."""

    def __len__(self) -> int:
        return len(self._reading)

    @overload
    def __getitem__(self, number: int) -> Place: ...
    @overload
    def __getitem__(self, number: slice) -> list[Place]: ...
    def __getitem__(self, number: int | slice) -> Place | list[Place]:
        if isinstance(number, slice):
            return [self[scan] for scan in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        reading = int(self._reading.numpy()[number])
        begin, end = self._name_ends.numpy()[number : number + 2]
        first, last = self._number_ends.numpy()[number : number + 2]
        name = self._names.numpy()[begin:end].tobytes().decode()
        return self._make(
            reading, self._datasets[reading], name, tuple(self._numbers.numpy()[first:last].tolist())
        )


def blocks(readings: Iterable[int]) -> tuple[int, ...]:
    """How many scans each partition has, in order. readings: the partition of each scan, rising."""
    sizes = np.unique(np.fromiter(readings, np.int64), return_counts=True)[1]
    return tuple(int(size) for size in sizes)


def _shared(values: Any, narrow: bool = False) -> Tensor:
    """A copy in shared memory. With `narrow`, values take 16 bits each if they fit."""
    plain = np.array(memoryview(values))
    if narrow and plain.max(initial=0) < 2**15:
        plain = plain.astype(np.int16)
    return torch.from_numpy(plain).share_memory_()

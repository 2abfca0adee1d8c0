"""Learning from few labels: which scans of the train split a probe or a finetuning learns from. No torch, no zarr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, overload

from cache_schemas.errors import BadInput
from pipeline.config.training import Labelled

Item = TypeVar("Item")


class Chosen(Sequence[Item]):
    """Some items of a sequence, by their numbers."""

    def __init__(self, items: Sequence[Item], numbers: Sequence[int]) -> None:
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        if isinstance(at, slice):
            return [self._items[number] for number in self._numbers[at]]
        return self._items[self._numbers[at]]


def number_chosen(
    key: str, block: Labelled, scans: int, names: Callable[[], Sequence[tuple[str, str]]]
) -> int:
    """How many of so many labelled scans a block learns from, as far as a plan can know: those whose files cannot be read
    are found later. names: of each (PARTITION/SCAN, SCAN), asked for where the block names scans alone.

    Raises:
        BadInput: if it names scans that are not there.
    """
    if block.scans is None:
        return -(-scans // block.every)
    return len(_listed(key, block, block.scans, names()))


@lru_cache(maxsize=8)
def listed_scans(path: str, key: str = "scans") -> frozenset[str]:
    """The names in a file of scans: one a line; empty lines, what follows a #, and a byte order mark count for nothing.

    Raises:
        BadInput: if it cannot be read, names none, or one twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{key}: {path} cannot be read as text ({error}); give a file with a scan's name a line"
        ) from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise BadInput(
            f"{key}: {path} names no scan; write one a line, as `griddle index --json` prints them"
        )
    distinct = frozenset(names)
    if len(distinct) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(
            f"{key}: {path} names {len(names) - len(distinct)} scan(s) twice, the first {twice}; write each once"
        )
    return distinct


def choose(
    key: str, block: Labelled, scans: Sequence[Item], names: Sequence[tuple[str, str]]
) -> Sequence[Item]:
    """The scans that a block learns from. names: of each (PARTITION/SCAN, SCAN).

    Raises:
        BadInput: if it names scans that are not there, or fewer are left than make a batch.
    """
    chosen = scans
    if block.every > 1:
        chosen = Chosen(scans, range(0, len(scans), block.every))
    elif block.scans is not None:
        chosen = Chosen(scans, _listed(key, block, block.scans, names))
    if len(chosen) < block.batch:
        raise BadInput(
            f"{key}.batch is {block.batch}, but there are only {len(chosen)} scan(s) to learn from; write a smaller one"
        )
    return chosen


def _listed(key: str, block: Labelled, path: str, names: Sequence[tuple[str, str]]) -> list[int]:
    """The numbers of the scans that a file names, of all labelled ones."""
    wanted = listed_scans(path, f"{key}.scans")
    lacking = sorted(wanted - {name for both in names for name in both})
    if lacking:
        raise BadInput(
            f"{key}.scans: {path} names {len(lacking)} scan(s) of {len(wanted)} that have no labels in the "
            f"{', '.join(block.splits)} split, the first {lacking[0]}; the split begins with {names[0][0]}"
        )
    return [number for number, both in enumerate(names) if wanted.intersection(both)]

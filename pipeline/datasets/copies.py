"""Partitions that hold the same recordings as another: a folder `002_backup` beside `002` is read as one more sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.datasets.files import read_file
from pipeline.datasets.records import PartitionRecord

SHOWN = 5
HELD_OUT = ("test", "val", "train")
"""Splits, the one that is most to be kept from the others first."""


class Copies:
    """Partitions by what tells copies apart: their lidar files' names and sizes, and the bytes of the first.

    A file is read only where names and sizes of all files of two partitions are the same.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._alike: dict[
            str, dict[str, str]
        ] = {}  # by names and sizes: each partition's name, its first file

    def add(self, partition: PartitionRecord) -> None:
        if partition.problem is None and partition.scans:
            files = [[PurePosixPath(scan.path).name, scan.bytes] for scan in partition.scans]
            self._alike.setdefault(digest(files), {})[partition.name] = partition.scans[0].path

    def originals(self) -> dict[str, str]:
        """For each copy the name of the partition that it is a copy of: the one with the shortest name, of these the first."""
        originals: dict[str, str] = {}
        for first_files in self._alike.values():
            by_content: dict[str, list[str]] = {}
            if len(first_files) > 1:
                for name, path in first_files.items():
                    with suppress(BadInput):  # what cannot be read is said where it is read
                        by_content.setdefault(sha256(read_file(self._root / path)).hexdigest(), []).append(
                            name
                        )
            for names in by_content.values():
                original, *copies = sorted(names, key=lambda name: (len(name), name))
                originals |= dict.fromkeys(copies, original)
        return originals


def about_copies(
    originals: Mapping[str, str],
    splits: Mapping[str, str],
    is_used: Callable[[str], bool] = lambda name: True,
) -> str | None:
    """Lines for people: which partitions are copies, in which splits, and how each recording is used once. None: all are.

    Of a recording that is in several splits, what is held out stays: test before val, val before train.

    Args:
        originals: as `Copies.originals` gives them, of partitions before they are split.
        splits: the split of each partition of the index.
        is_used: whether the config selects a partition of the index.
    """
    groups: dict[str, list[str]] = {}
    for copy, original in originals.items():
        groups.setdefault(original, [original]).append(copy)
    leaks, others, leave_out = [], [], []
    for names in groups.values():
        parts = {name: [part for part in _parts_of(name, splits) if is_used(part)] for name in names}
        held = {name: {splits[part] for part in its} for name, its in parts.items() if its}
        if len(held) < 2:
            continue
        kept = min(held, key=lambda name: (min(map(HELD_OUT.index, held[name])), names.index(name)))
        leave_out += [part for name in held if name != kept for part in parts[name]]
        original, *copies = held
        for copy in copies:
            line = f"{_with_splits(copy, held)} is a copy of {_with_splits(original, held)}; both are used"
            if held[copy] == held[original]:
                others.append(line)
            else:
                both = sorted(held[copy] | held[original], key=HELD_OUT.index, reverse=True)
                leaks.append(f"{line}: the recording is in {' and '.join(both)}")
    lines = leaks + others
    if not lines:
        return None
    some = "; ".join(lines[:SHOWN]) + (f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")
    return f"{some}. To use each recording once, write leave_out: [{', '.join(leave_out)}]"


def _parts_of(name: str, splits: Mapping[str, str]) -> list[str]:
    """A partition as the index has it: whole, or in parts where `splits` of the config cut it (`splits.resplit`)."""
    return (
        [name] if name in splits else [part for part in (f"{name}-{s}" for s in HELD_OUT) if part in splits]
    )


def _with_splits(name: str, held: Mapping[str, set[str]]) -> str:
    return f"{name} ({', '.join(sorted(held[name], key=HELD_OUT.index, reverse=True))})"

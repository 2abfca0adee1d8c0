"""Splits of the user's own, instead of a dataset's: which patterns name which scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.datasets.reader import Reader
from pipeline.datasets.records import PartitionRecord, ScanRecord


def named_split(
    reader: Reader, choice: str, partition: PartitionRecord
) -> tuple[list[PartitionRecord], list[str]]:
    """A partition under splits that its reader knows by name, and the names of its scans where it is in none.

    Raises:
        BadInput: for an unknown name.
    """
    known = reader.traits.named_splits
    if choice not in known:
        raise BadInput(
            f"splits: {reader.traits.reader} has no splits called {choice!r}"
            + (f"; it has {', '.join(known)}" if known else "; write them as a mapping (docs/config.md)")
        )
    split = reader.named_split(choice, partition.name, partition.split)
    if split is None:
        return [], partition.scan_names
    return [replace(partition, split=split)], []


def resplit(
    partition: PartitionRecord, splits: Mapping[Any, Sequence[str]] | None
) -> tuple[list[PartitionRecord], list[str]]:
    """A partition under the user's splits, and the names of its scans that no pattern names.

    It stays whole, name and all, where all its scans are in one split; else it becomes one for each split.

    Raises:
        BadInput: if a scan is in two splits.
    """
    if splits is None:
        return [partition], []
    chosen: dict[str, list[ScanRecord]] = {}
    left_out: list[str] = []
    for scan in partition.scans:
        split = _split_of(partition.name, scan.name, splits)
        if split is None:
            left_out.append(scan.name)
        else:
            chosen.setdefault(split, []).append(scan)
    if len(chosen) == 1 and not left_out:
        return [replace(partition, split=next(iter(chosen)))], []
    parts = [
        replace(partition, name=f"{partition.name}-{split}", split=split, scans=tuple(chosen[split]))
        for split in splits
        if split in chosen
    ]
    return parts, left_out


def split_of_absent(
    reader: Reader, splits: str | Mapping[Any, Sequence[str]] | None, partition: str, split: str
) -> str | None:
    """The split of a partition that has no record, for nothing of it is there; None: in none, as far as its name says.

    Args:
        split: that it is officially in.
    """
    if splits is None:
        return split
    if isinstance(splits, str):
        return reader.named_split(splits, partition, split)
    whole = {name: [p for p in patterns if "/" not in p] for name, patterns in splits.items()}
    return _split_of(partition, "", whole)


def full_name(partition: str, scan: str) -> str:
    """PARTITION/SCAN, where the scan's own name does not say its partition already."""
    return scan if scan.startswith(f"{partition}/") else f"{partition}/{scan}"


def _split_of(partition: str, scan: str, splits: Mapping[Any, Sequence[str]]) -> str | None:
    name = full_name(partition, scan)
    matching = [
        split
        for split, patterns in splits.items()
        if any(fnmatchcase(name if "/" in pattern else partition, pattern) for pattern in patterns)
    ]
    if len(matching) > 1:
        raise BadInput(f"splits: {name} is in {' and '.join(matching)}; a scan belongs to one split")
    return matching[0] if matching else None

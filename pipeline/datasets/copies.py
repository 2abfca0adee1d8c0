"""Partitions that hold the same recordings as another: a folder `002_backup` beside `002` is read as one more sequence."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput
from pipeline.datasets.files import read_file
from pipeline.datasets.records import PartitionRecord


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


def about_copies(originals: Mapping[str, str]) -> str:
    """A line for people: which partitions are copies, and how each recording is used once."""
    some = [f"{name} of {original}" for name, original in list(originals.items())[:5]]
    more = " ..." if len(originals) > 5 else ""
    return (
        f"{len(originals)} partition(s) hold the same lidar files as another, and both are used: {', '.join(some)}{more}. To use "
        f"each recording once, write leave_out: [{', '.join(list(originals)[:5])}{more}]"
    )

"""Warnings about a dataset's values: collected file by file, kept in a manifest as one entry a kind.

What cannot be right is refused with its file. What is unlikely is taken, and said. A kind that the dataset's block of the
config allows is not refused; its warnings are still kept, and not shown.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.config.data_kinds import KINDS


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the values of one file.

    Attributes:
        kind: one of `KINDS`.
        why: in words, with counts; the file is named beside it.
        refused: whether it cannot be right. Otherwise it is unlikely.
    """

    kind: str
    why: str
    refused: bool = False


class Warnings:
    """The findings of one partition. Several threads may note some at once.

    Args:
        allow: kinds that are not refused.
    """

    def __init__(self, allow: Collection[str] = ()) -> None:
        self._allow = frozenset(allow)
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, int], tuple[str, str]] = {}  # by kind and row: path, and why

    def note(self, row: int, path: str, findings: Iterable[Finding], where: str) -> None:
        """Keep what was found in the file of a row.

        Args:
            path: of the file, relative to the dataset's root, as a manifest names it.
            where: the scan and the file, to begin an error's message with.

        Raises:
            BadInput: for the first finding that cannot be right, unless its kind is allowed.
        """
        findings = list(findings)
        for finding in findings:
            if finding.refused and finding.kind not in self._allow:
                raise refusal(where, finding)
        with self._lock:
            for finding in findings:
                self._noted.setdefault((finding.kind, row), (path, finding.why))

    def entries(self, files: int, what: str) -> list[dict[str, Any]]:
        """For a manifest, one entry a kind: its `kind`, `what` (how many files, and the first), `why` (of the first), `count`.

        Args:
            files: of the partition.
            what: they are, in the plural: `lidar files`.
        """
        entries = []
        for kind in KINDS:
            rows = sorted(row for noted, row in self._noted if noted == kind)
            if rows:
                path, why = self._noted[kind, rows[0]]
                entries.append(
                    {
                        "kind": kind,
                        "what": f"{len(rows)} of {files} {what}, the first {path}",
                        "why": why,
                        "count": len(rows),
                    }
                )
        return entries


def refusal(where: str, finding: Finding) -> BadInput:
    """The error for what cannot be right, with what to do."""
    return BadInput(
        f"{where}: {finding.why}. Mend the file or the reader; if it is right, write `allow: [{finding.kind}]` in the "
        f"dataset's block of the config"
    )


def shown(entries: Iterable[Mapping[str, Any]], allow: Collection[str]) -> list[Mapping[str, Any]]:
    """The entries whose kind the config does not allow."""
    return [entry for entry in entries if entry["kind"] not in allow]


def line(entry: Mapping[str, Any]) -> str:
    """An entry of a manifest as a line of a log."""
    return f"warning: {entry['kind']}: {entry['what']}: {entry['why']}. {if_right(entry['kind'])}"


def if_right(kind: str) -> str:
    """What to write where such values are right."""
    return f"If that is right: allow: [{kind}]"


def summed(dataset: str, partitions: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[str]:
    """One line for each kind, over all partitions of a dataset that have warnings of it.

    Args:
        partitions: of each its name and its entries.
    """
    by_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, entries in partitions:
        for entry in entries:
            by_kind.setdefault(entry["kind"], []).append((name, entry))
    return [
        f"{dataset}: {kind}: {sum(entry['count'] for _, entry in noted):,} file(s) of {len(noted)} partition(s); {noted[0][0]}: "
        f"{noted[0][1]['what']}: {noted[0][1]['why']}. {if_right(kind)}"
        for kind, noted in sorted(
            by_kind.items(), key=lambda item: KINDS.index(item[0]) if item[0] in KINDS else len(KINDS)
        )
    ]

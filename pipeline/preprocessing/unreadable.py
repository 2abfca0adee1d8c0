"""Which files of a partition could not be read and are left out, if `on_error: skip` allows it: counted and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cache_schemas.errors import BadInput
from cache_schemas.reading import PartitionReader
from pipeline.datasets.fence import like


class Unreadable:
    """The files of one partition that could not be read, by their rows. Several threads may note files at once."""

    def __init__(self) -> None:
        self._reasons: dict[int, tuple[str, str]] = {}  # by row: path, and why it cannot be read
        self._errors: dict[int, BadInput] = {}

    def note(self, row: int, path: str, error: BadInput) -> None:
        """Record that the file of a row cannot be read, and why. `path` is relative to the dataset's root."""
        self._reasons[row] = path, str(error)
        self._errors[row] = error

    def __contains__(self, row: int) -> bool:
        return row in self._reasons

    @property
    def rows(self) -> list[int]:
        """In ascending order."""
        return sorted(self._reasons)

    @property
    def counts(self) -> dict[str, int]:
        """For a manifest's counts: empty if all files could be read."""
        return {"unreadable": len(self._reasons)} if self._reasons else {}

    def left_out(self, scans: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """For a manifest's list of what was left out. scans: the names of all rows, if rows are scans."""
        return [
            {"what": path, "why": why, **({} if scans is None else {"scan": scans[row]})}
            for row, (path, why) in sorted(self._reasons.items())
        ]

    def check_some_readable(self, count: int, what: str) -> None:
        """Refuse a partition of which no file can be read: then a folder is missing, not one file damaged.

        Raises:
            BadInput: with the first reason.
        """
        if count and len(self._reasons) == count:
            first = self._errors[self.rows[0]]
            raise like(
                first,
                f"none of its {count} {what} can be read, and `on_error: skip` leaves out single files alone. The first: {first}",
            )


def lost_scans(scans: PartitionReader) -> list[dict[str, Any]]:
    """The scans of a partition's scan store whose lidar files could not be read, as its manifest lists them."""
    return [entry for entry in scans.manifest.left_out if "scan" in entry]

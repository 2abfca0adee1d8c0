"""What of a partition's files could not be read and is left out, where `on_error: skip` allows it: counted and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cache_schemas.errors import BadInput


class Unreadable:
    """The files of one partition that could not be read, by their rows. Several threads may note theirs."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def note(self, row: int, path: str, error: BadInput) -> None:
        """That the file of a row, a path in the dataset's root, cannot be read, and why."""
        self._found[row] = path, str(error)

    def __contains__(self, row: int) -> bool:
        return row in self._found

    @property
    def rows(self) -> list[int]:
        """In ascending order."""
        return sorted(self._found)

    @property
    def counts(self) -> dict[str, int]:
        """For a manifest's counts: nothing where all could be read."""
        return {"unreadable": len(self._found)} if self._found else {}

    def left_out(self, scans: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """For a manifest's list of what was left out. scans: names of all rows, where rows are scans."""
        return [
            {"what": path, "why": why, **({} if scans is None else {"scan": scans[row]})}
            for row, (path, why) in sorted(self._found.items())
        ]

    def refuse_all(self, count: int, what: str) -> None:
        """A partition of which nothing can be read is no partition: that is a folder that is gone, not a bad file.

        Raises:
            BadInput: with the first reason.
        """
        if count and len(self._found) == count:
            raise BadInput(
                f"none of its {count} {what} can be read, and `on_error: skip` leaves out single files alone. The first: "
                f"{self._found[self.rows[0]][1]}"
            )

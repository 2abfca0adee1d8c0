"""What the files of a partition hold while they are read: recorded, so that a later release of the same sizes is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cache_schemas.errors import GriddleError
from cache_schemas.sources import Content, Sources, content_of, stamp_of

Value = TypeVar("Value")


class SourceFiles:
    """The files of one partition, by their rows. Several threads may read at once.

    Attributes:
        contents: for a manifest; None for what could not be opened, or was not read yet.
    """

    def __init__(self, count: int) -> None:
        self._contents: list[Content | None] = [None] * count

    @property
    def contents(self) -> Sources:
        return self._contents

    def read(self, row: int, path: Path, indexed: str | None, read: Callable[[], Value]) -> Value:
        """What `read` makes of a file, whose content is recorded. What it raises passes.

        Args:
            indexed: digest of the content that the index knows, if it knows one.

        Raises:
            GriddleError: if the file holds something else than the index knows, or was changed while it was read.
        """
        try:
            content = content_of(path)
        except OSError:  # `read` says why
            return read()
        self._contents[row] = content
        if indexed not in (None, content.digest):
            raise GriddleError(
                f"{path} was changed after the dataset was indexed. Run `griddle index --force` with the same config, then "
                f"the same command again."
            )
        value = read()
        try:
            same = stamp_of(path) == content.stamp
        except OSError:
            same = False
        if not same:
            raise GriddleError(
                f"{path} was changed while it was read. Run the same command again when nothing writes to it."
            )
        return value

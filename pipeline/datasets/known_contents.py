"""contents.json of an index: what is known of files whose content was looked at after a store had been made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cache_schemas.canonical import sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import write_json
from cache_schemas.sources import Content
from pipeline.common.log import log
from pipeline.datasets.index_files import read_summary

NAME = "contents.json"
KIND = "griddle contents"


@dataclass
class KnownContents:
    """By a file's path relative to the dataset's root.

    Attributes:
        first: digests of what stores were made of whose member digest does not name content; of changed files alone.
        looked_at: what a file held when it was last read whole, for the time and size that it had then.
    """

    first: dict[str, list[str]] = field(default_factory=dict)
    looked_at: dict[str, Content] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> KnownContents:
        """Of an index's folder; empty where nothing is known, or where it is damaged: then files are read again."""
        try:
            body = read_summary(folder / NAME)
        except BadInput as error:
            log(f"index: {str(error).splitlines()[0]} The files are read again")
            return cls()
        if body is None or body.get("griddle") != KIND:
            return cls()
        return cls(
            body["first"],
            {path: Content(value, *stamp) for path, (value, *stamp) in body["looked_at"].items()},
        )

    def content(self, path: str, stamp: tuple[int, int]) -> Content | None:
        """What a file holds, if it is the one that was looked at."""
        content = self.looked_at.get(path)
        return content if content is not None and content.stamp == stamp else None

    def changed(self, path: str, made_of: Iterable[str], now: str) -> bool:
        """Whether a file holds something else than one of the stores that were made of it; remembered if so.

        Args:
            made_of: digests of what stores were made of whose member digest does not name content.
        """
        before = sorted({*made_of, *self.first.get(path, ())})
        if any(value != now for value in before):
            self.first[path] = before
        return any(value != now for value in before)

    def save(self, folder: Path) -> None:
        """Write it, if anything is known."""
        if not self.first and not self.looked_at:
            return
        looked_at = {path: [content.digest, *content.stamp] for path, content in self.looked_at.items()}
        write_json(folder / NAME, sealed({"griddle": KIND, "first": self.first, "looked_at": looked_at}))

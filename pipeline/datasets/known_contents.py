"""What is known of files whose content was looked at: in contents.json of an index, and of a cache what its stores began with.

The part in the cache is shared by all workdirs, and stays when the partitions that it speaks of are gone. So a member digest
that does not name content always stands for the same content.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache_schemas.canonical import sealed
from cache_schemas.disk import writing_to
from cache_schemas.errors import BadInput, CannotWrite
from cache_schemas.publish import write_json
from cache_schemas.sources import Content, Stamp
from pipeline.common.log import log
from pipeline.datasets.index_files import read_summary

NAME = "contents.json"
KIND = "griddle contents"


@dataclass
class KnownContents:
    """By a file's path relative to the dataset's root.

    Attributes:
        folder: of the index.
        shared: the file in the cache.
        first: digests of what stores were made of whose member digest does not name content; of changed files alone.
        looked_at: what a file held when it was last read whole, for the stamp that it had then.
        root: of the dataset, when it was last indexed.
        stamps: by partition, a digest of the stamps of its files at that time.
    """

    folder: Path
    shared: Path
    first: dict[str, list[str]] = field(default_factory=dict)
    looked_at: dict[str, Content] = field(default_factory=dict)
    root: str = ""
    stamps: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, cache: Path, dataset: str) -> KnownContents:
        """Of an index's folder and a cache; empty where nothing is known, or where it is damaged: then files are read again.

        Raises:
            BadInput: if there is something else than a file in its place.
        """
        known = cls(folder, cache / "contents" / f"{dataset}.json")
        own, shared = _read(folder / NAME), _read(known.shared)
        for body in (shared, own):
            for path, digests in body.get("first", {}).items():
                known.first[path] = sorted({*known.first.get(path, ()), *digests})
        for path, (value, *stamp) in own.get("looked_at", {}).items():
            known.looked_at[path] = Content(value, stamp[0], _stamp(stamp))
        known.root, known.stamps = own.get("root", ""), own.get("stamps", {})
        return known

    def content(self, path: str, stamp: Stamp) -> Content | None:
        """What a file holds, if it is the one that was looked at."""
        content = self.looked_at.get(path)
        return content if content is not None and content.stamp == stamp else None

    def note_if_changed(self, path: str, made_of: Iterable[str], now: str) -> bool:
        """Whether a file holds something else than one of the stores that were made of it; remembered if so.

        Args:
            made_of: digests of what stores were made of whose member digest does not name content.
        """
        before = sorted({*made_of, *self.first.get(path, ())})
        changed = any(value != now for value in before)
        if changed:
            self.first[path] = before
        return changed

    def save(self) -> None:
        """Write it; into the cache only what is new, and only if it may be written."""
        looked_at = {path: [c.digest, *c.stamp] for path, c in self.looked_at.items() if c.stamp is not None}
        body = {
            "griddle": KIND,
            "root": self.root,
            "first": self.first,
            "looked_at": looked_at,
            "stamps": self.stamps,
        }
        write_json(self.folder / NAME, sealed(body))
        if not self.first:
            return
        try:
            with writing_to(self.shared.parent):
                self._share()
        except CannotWrite as error:
            log(
                f"index: that files were replaced could not be noted for other workdirs of this cache: {error} They see it as long as "
                f"the partitions are there that were made of the files before"
            )

    def _share(self) -> None:
        self.shared.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.shared.parent):
            known = _read(self.shared).get("first", {})
            both = {
                path: sorted({*self.first.get(path, ()), *known.get(path, ())})
                for path in {**self.first, **known}
            }
            if both != known:
                write_json(self.shared, sealed({"griddle": KIND, "first": both}))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context that one process at a time enters; the lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        body = read_summary(path)
    except BadInput as error:
        if not path.is_file():
            raise
        log(f"index: {str(error).splitlines()[0]} The files are read again where their time does not tell")
        return {}
    return body if body is not None and body.get("griddle") == KIND else {}


def _stamp(numbers: list[int]) -> Stamp:
    written, changed, size = numbers
    return written, changed, size

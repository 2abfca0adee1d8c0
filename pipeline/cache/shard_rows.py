"""The rows of one array over many partitions, as an array-like object that dask slices shard by shard, with checksums verified.

It holds only paths and row numbers, so that it can be sent to other processes, which open the partitions that they read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, read_manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.stores import schema_of

if TYPE_CHECKING:
    import dask.array

Read = Callable[[PartitionReader, int, int], np.ndarray]
"""(an open partition, first row, the row behind the last) -> values, one row for each."""

OPEN_READERS = 64
"""How many partitions one process keeps open. Each takes a few kilobytes for checksums and shard indices."""


def open_reader(manifest: Manifest) -> PartitionReader:
    """The partition that a manifest describes, opened once in each process.

    Raises:
        OtherVersion: if it is of a schema that this version does not read.
        DamagedCache: if it is not valid.
    """
    return _reader(manifest.path, manifest.content_digest)


@dataclass(frozen=True)
class Part:
    """One partition's rows of an array."""

    manifest: Path
    content_digest: str
    rows: int
    shard_rows: int


@dataclass(frozen=True)
class ShardRows:
    """An array-like of all rows. A slice reads and checks only the inner chunks that hold its rows.

    Attributes:
        parts: in the order of the rows.
        inner: the shape of one row.
        dtype: of what `read` gives.
        read: a function of a module, so that it can be sent to other processes.
    """

    parts: tuple[Part, ...]
    inner: tuple[int, ...]
    dtype: np.dtype
    read: Read

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.cumsum([0, *(part.rows for part in self.parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._bounds[-1]), *self.inner)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def to_dask(self, token: str) -> dask.array.Array:
        """Lazy, a chunk for each shard; `token` names its content."""
        import dask.array as da

        rows = [
            min(part.shard_rows, part.rows - start)
            for part in self.parts
            for start in range(0, part.rows, part.shard_rows)
        ]
        chunks = (tuple(rows) or (0,), *((side,) for side in self.inner))
        empty = np.empty((0,) * self.ndim, self.dtype)
        return da.from_array(self, chunks, name=token, asarray=False, meta=empty)

    def __getitem__(self, index: Any) -> np.ndarray:
        """As in numpy. For a list of rows, all rows between its smallest and its largest are read."""
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, slice):
            rows = range(*first.indices(self.shape[0]))
            low, high = sorted((rows[0], rows[-1])) if rows else (0, -1)
            return self._rows(low, high + 1)[(slice(None, None, rows.step), *rest)]
        picked = np.asarray(first)
        if not picked.size:
            return self._rows(0, 0)[(picked.astype(np.int64), *rest)]
        low, high = int(picked.min()), int(picked.max())
        return self._rows(low, high + 1)[(picked - low, *rest)]

    def _rows(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        number = int(np.searchsorted(self._bounds, start, side="right")) - 1
        while start < stop:
            part, begin = self.parts[number], int(self._bounds[number])
            end = min(stop, begin + part.rows)
            if start < end:
                reader = _reader(part.manifest, part.content_digest)
                pieces.append(self.read(reader, start - begin, end - begin))
            start, number = max(start, end), number + 1
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.inner), self.dtype)


@lru_cache(maxsize=OPEN_READERS)
def _reader(path: Path, content_digest: str) -> PartitionReader:
    manifest = read_manifest(path)
    reader = PartitionReader(path.parent, schema_of(manifest), manifest.partition, manifest.member_digest)
    if reader.manifest.content_digest != content_digest:
        raise DamagedCache(
            f"{path} was replaced while it was read: it names {reader.manifest.content_digest} now, and named "
            f"{content_digest}. Open the cache again."
        )
    return reader

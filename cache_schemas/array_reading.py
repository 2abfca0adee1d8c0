"""Rows of one array, straight from its shards' bytes, every chunk checked against the partition's own checksums.

The Zarr API costs more Python per chunk than the bytes do, so this reads byte ranges through the shard index, one
read for a run of neighbouring chunks. Any Zarr reader sees the same values: a test holds the two readings equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import prod
from threading import local

import google_crc32c
import numpy as np

from cache_schemas.errors import DamagedCache
from cache_schemas.open_files import FILES
from cache_schemas.shards import CRC_BYTES, ShardLayout, read_shard_index


class ArrayReader:
    """Reads one array. `sums` are its chunks' CRC-32C, (chunks,) uint32."""

    def __init__(self, layout: ShardLayout, sums: np.ndarray) -> None:
        self.layout = layout
        self._sums = sums
        self._offsets: dict[int, np.ndarray] = {}
        self._files: dict[int, str] = {}
        self._number = next(_numbers)
        self._strides = tuple(
            prod(layout.chunk[axis + 1 :]) * layout.dtype.itemsize for axis in range(len(layout.chunk))
        )

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows `start` to `stop`, a new array or `out`.

        Raises:
            DamagedCache: naming the file, if a chunk is not there or not the one that was written.
        """
        layout = self.layout
        self._check_range(start, stop)
        if out is None:
            out = np.empty((stop - start, *layout.shape[1:]), layout.dtype)
        if start == stop:
            return out
        rows = layout.chunk[0]
        if rows == 1:
            self._read_straight(start, stop, out)
            return out
        for first, block in self._blocks(start // rows, (stop - 1) // rows + 1):
            for number, values in enumerate(block, first):
                begin, end = max(start, number * rows), min(stop, (number + 1) * rows)
                out[begin - start : end - start] = values[begin - number * rows : end - number * rows]
        return out

    def read_rows(self, start: int, stop: int, rows: np.ndarray) -> np.ndarray:
        """Of rows `start` to `stop` those that `rows` counts, a new array; reads the chunks that hold one and no other."""
        layout = self.layout
        self._check_range(start, stop)
        if not len(rows):
            return np.empty((0, *layout.shape[1:]), layout.dtype)
        wanted = rows.astype(np.int64) + start
        first, last = int(wanted.min()), int(wanted.max())
        if not start <= first <= last < stop:
            raise IndexError(f"rows {first - start} to {last - start} of {stop - start} in {layout.folder}")
        chunk, within = np.divmod(wanted, layout.chunk[0])
        base = first // layout.chunk[0]
        chunk -= base
        asked = np.zeros(last // layout.chunk[0] - base + 1, np.bool_)
        asked[chunk] = True
        values: np.ndarray | None = None
        for begin, end in [(0, len(asked))] if asked.all() else _runs(asked):
            for number, block in self._blocks(base + begin, base + end):
                if len(block) == len(asked):
                    return block[chunk, within]
                if values is None:
                    values = np.empty((len(rows), *layout.shape[1:]), layout.dtype)
                here = np.flatnonzero((chunk >= number - base) & (chunk < number - base + len(block)))
                values[here] = block[chunk[here] - (number - base), within[here]]
        assert values is not None
        return values

    def advise(self, start: int, stop: int) -> None:
        """Ask the system to read these rows' chunks ahead."""
        if start == stop:
            return
        self._check_range(start, stop)
        rows = self.layout.chunk[0]
        for shard, begin, end in self._by_shard(start // rows, (stop - 1) // rows + 1):
            offsets = self._shard_offsets(shard)
            length = int(offsets[end - 1] - offsets[begin]) + self.layout.chunk_bytes
            FILES.advise(self._number, self._shard_file(shard), int(offsets[begin]), length)

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Chunks `first` to `last`, checked: (number of the first, (chunks, *chunk shape)) for each read.

        The values lie in memory that the next read overwrites.
        """
        layout = self.layout
        size = layout.chunk_bytes
        for shard, begin, end in self._by_shard(first, last):
            for a, b, offset in self._neighbouring(shard, begin, end, max(1, SCRATCH_BYTES // size)):
                data = _scratch((b - a) * size)
                self._fill(shard, [data], offset)
                number = shard * layout.chunks_per_shard + a
                for i in range(b - a):
                    self._check(data[i * size : (i + 1) * size - CRC_BYTES], number + i)
                yield (
                    number,
                    np.ndarray((b - a, *layout.chunk), layout.dtype, data.data, 0, (size, *self._strides)),
                )

    def _read_straight(self, start: int, stop: int, out: np.ndarray) -> None:
        """Chunks of one row each lie in the file as they will lie in `out`, but for the checksum between them."""
        target = out.reshape(stop - start, -1).view(np.uint8)
        between = _scratch(CRC_BYTES)
        for shard, begin, end in self._by_shard(start, stop):
            for a, b, offset in self._neighbouring(shard, begin, end, MOST_CHUNKS):
                number = shard * self.layout.chunks_per_shard + a
                buffers = []
                for row in range(number, number + b - a):
                    buffers += [target[row - start], between]
                self._fill(shard, buffers, offset)
                for row in range(number, number + b - a):
                    self._check(target[row - start], row)

    def _by_shard(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Chunks `first` to `last` as (shard, first and last within it)."""
        each = self.layout.chunks_per_shard
        for shard in range(first // each, (last - 1) // each + 1):
            yield shard, max(first - shard * each, 0), min(last - shard * each, each)

    def _neighbouring(self, shard: int, begin: int, end: int, most: int) -> Iterator[tuple[int, int, int]]:
        """Chunks of a shard in runs of at most `most` that lie side by side in its file: (first, last, offset)."""
        offsets = self._shard_offsets(shard)
        size = self.layout.chunk_bytes
        while begin < end:
            stop = min(end, begin + most)
            if offsets[stop - 1] - offsets[begin] != (stop - 1 - begin) * size:
                stop = begin + 1
            yield begin, stop, int(offsets[begin])
            begin = stop

    def _shard_offsets(self, shard: int) -> np.ndarray:
        if shard not in self._offsets:
            self._offsets[shard] = read_shard_index(self.layout, shard)
        return self._offsets[shard]

    def _shard_file(self, shard: int) -> str:
        """The shard's path; made once, as making it costs as much as a small read."""
        if shard not in self._files:
            self._files[shard] = str(self.layout.shard_file(shard))
        return self._files[shard]

    def _fill(self, shard: int, buffers: list[np.ndarray], offset: int) -> None:
        path = self._shard_file(shard)
        wanted = sum(len(buffer) for buffer in buffers)
        try:
            done = FILES.read_into(self._number, path, buffers, offset)
        except OSError as error:
            raise DamagedCache(f"{path} cannot be read ({error}).") from error
        if done != wanted:
            raise DamagedCache(f"{path} is cut short: {done} of {wanted} bytes at {offset}.")

    def _check(self, values: np.ndarray, number: int) -> None:
        if google_crc32c.value(values) != self._sums[number]:
            shard = self.layout.shard_file(number // self.layout.chunks_per_shard)
            raise DamagedCache(f"{shard}: chunk {number} is not the one that was written (checksum).")

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.layout.shape[0]:
            raise IndexError(f"rows {start} to {stop} of {self.layout.shape[0]} in {self.layout.folder}")


SCRATCH_BYTES = 4 * 2**20
"""Read at once where values are copied out of chunks; small enough to stay in the processor's cache."""
MOST_CHUNKS = 256
"""Read at once straight into place: the system takes 1,024 buffers, and a chunk and its checksum are two."""

_numbers = count()
_memory = local()


def _scratch(size: int) -> np.ndarray:
    """(size,) uint8 of this thread, reused: fresh memory costs more than the bytes that are read into it."""
    held: np.ndarray | None = getattr(_memory, "held", None)
    if held is None or len(held) < size:
        held = _memory.held = np.empty(max(size, 2**20), np.uint8)
    return held[:size]


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        yield int(begin), int(end)

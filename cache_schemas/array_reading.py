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

from cache_schemas.access import access_to
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
        self._size = layout.chunk_bytes
        self._strides = tuple(
            prod(layout.chunk[axis + 1 :]) * layout.dtype.itemsize for axis in range(len(layout.chunk))
        )

    def read(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows `start` to `stop`, a new array or `out`.

        Raises:
            NoAccess: naming the file, if the system refuses to read it.
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
        least, most = int(rows.min()), int(rows.max())
        if not 0 <= least <= most < stop - start:
            raise IndexError(f"rows {least} to {most} of {stop - start} in {layout.folder}")
        each = layout.chunk[0]
        first, last = (start + least) // each, (start + most) // each
        wanted = rows.astype(np.int64) + (start - first * each)  # counted from the first row of chunk `first`
        chunk = wanted // each
        needed = np.zeros(last - first + 1, np.bool_)
        needed[chunk] = True
        runs = [(0, len(needed))]
        if not needed.all():
            runs = _runs(needed)
            wanted -= (np.cumsum(~needed) * each)[chunk]  # counted without the chunks that are not read
        values = np.empty((int(needed.sum()), *layout.chunk), layout.dtype)
        done = 0
        for begin, end in runs:
            for _, block in self._blocks(first + begin, first + end):
                values[done : done + len(block)] = block
                done += len(block)
        return values.reshape(-1, *layout.chunk[1:]).take(wanted, axis=0)

    def advise(self, start: int, stop: int) -> None:
        """Ask the system to read these rows' chunks ahead."""
        if start == stop:
            return
        self._check_range(start, stop)
        rows = self.layout.chunk[0]
        for shard, offset, begin, end in self._pieces(start // rows, (stop - 1) // rows + 1, MOST_CHUNKS):
            FILES.advise(self._number, self._shard_file(shard), offset, (end - begin) * self._size)

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Chunks `first` to `last`, checked: (number of the first, (chunks, *chunk shape)) for each read.

        The values lie in memory that the next read overwrites.
        """
        layout, size = self.layout, self._size
        for shard, offset, begin, end in self._pieces(first, last, max(1, SCRATCH_BYTES // size)):
            data = _scratch((end - begin) * size)
            self._fill(shard, [data], offset, len(data))
            for at in range(end - begin):
                whole = data[at * size : (at + 1) * size]
                self._check(whole[:-CRC_BYTES], whole[-CRC_BYTES:], begin + at)
            shape, strides = (end - begin, *layout.chunk), (size, *self._strides)
            yield begin, np.ndarray(shape, layout.dtype, data.data, 0, strides)

    def _read_straight(self, start: int, stop: int, out: np.ndarray) -> None:
        """Chunks of one row each lie in the file as they will lie in `out`, but for the checksum between them."""
        target = out.reshape(stop - start, -1).view(np.uint8)
        for shard, offset, begin, end in self._pieces(start, stop, MOST_CHUNKS):
            rows = [target[row - start] for row in range(begin, end)]
            sums = list(_scratch(len(rows) * CRC_BYTES).reshape(-1, CRC_BYTES))
            pairs = list(zip(rows, sums, strict=True))
            self._fill(
                shard, [buffer for pair in pairs for buffer in pair], offset, (end - begin) * self._size
            )
            for number, (row, beside) in enumerate(pairs, begin):
                self._check(row, beside, number)

    def _pieces(self, first: int, last: int, most: int) -> Iterator[tuple[int, int, int, int]]:
        """Chunks `first` to `last` as (shard, offset, first, last), at most `most` that lie side by side in its file."""
        each = self.layout.chunks_per_shard
        while first < last:
            shard, within = divmod(first, each)
            offsets = self._shard_offsets(shard)
            count = min(last - first, most, each - within)
            offset = int(offsets[within])
            if int(offsets[within + count - 1]) - offset != (count - 1) * self._size:
                count = 1
            yield shard, offset, first, first + count
            first += count

    def _shard_offsets(self, shard: int) -> np.ndarray:
        if shard not in self._offsets:
            self._offsets[shard] = read_shard_index(self.layout, shard)
        return self._offsets[shard]

    def _shard_file(self, shard: int) -> str:
        """The shard's path; made once, as making it costs as much as a small read."""
        if shard not in self._files:
            self._files[shard] = str(self.layout.shard_file(shard))
        return self._files[shard]

    def _fill(self, shard: int, buffers: list[np.ndarray], offset: int, wanted: int) -> None:
        path = self._shard_file(shard)
        try:
            with access_to(path):
                done = FILES.read_into(self._number, path, buffers, offset, wanted)
        except OSError as error:
            raise DamagedCache(f"{path} cannot be read ({error}).") from error
        if done != wanted:
            raise DamagedCache(f"{path} is cut short: {done} of {wanted} bytes at {offset}.")

    def _check(self, values: np.ndarray, beside: np.ndarray, number: int) -> None:
        """Other Zarr readers go by the sum beside the values, ours by the sidecar's: they must be one."""
        expected = int(self._sums[number])
        if google_crc32c.value(values) != expected or int.from_bytes(beside.tobytes(), "little") != expected:
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


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]

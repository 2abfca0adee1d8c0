"""Zarr v3 shard files as bytes: where each inner chunk lies, and its checksum.

The layout is that of the Zarr v3 `sharding_indexed` codec: inner chunks one after the other, then an index of
(offset, length) pairs as little-endian uint64, then the index's own CRC-32C. Our inner codecs are `bytes` and
`crc32c`, so an encoded chunk is its values followed by four bytes of CRC-32C.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import google_crc32c
import numpy as np

from cache_schemas.access import access_to, read_regular
from cache_schemas.errors import DamagedCache
from cache_schemas.schema import CODECS

ABSENT = np.uint64(2**64 - 1)
CRC_BYTES = 4


@dataclass(frozen=True)
class ShardLayout:
    """How one array's values lie in its shard files; read from its zarr.json."""

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]
    shard: tuple[int, ...]

    @property
    def chunks(self) -> int:
        """Inner chunks inside the array (a shard may have room for more)."""
        return -(-self.shape[0] // self.chunk[0])

    @property
    def chunks_per_shard(self) -> int:
        return self.shard[0] // self.chunk[0]

    @property
    def shards(self) -> int:
        return -(-self.chunks // self.chunks_per_shard)

    @property
    def chunk_bytes(self) -> int:
        """Encoded: values and checksum."""
        return prod(self.chunk) * self.dtype.itemsize + CRC_BYTES

    def shard_file(self, shard: int) -> Path:
        return self.folder / "c" / "/".join([str(shard), *("0" for _ in self.shape[1:])])

    def chunks_in(self, shard: int) -> int:
        return min(self.chunks_per_shard, self.chunks - shard * self.chunks_per_shard)


def read_layout(folder: Path) -> ShardLayout:
    """The layout of the array in `folder`.

    Raises:
        NoAccess: if the system refuses to read zarr.json.
        DamagedCache: if it is missing or describes another layout than ours.
    """
    path = folder / "zarr.json"
    try:
        with access_to(path):
            data = read_regular(path)
    except OSError as error:
        raise DamagedCache(
            f"{path} is missing or is not the metadata of a sharded array ({error})."
        ) from error
    return layout_of(folder, data)


def layout_of(folder: Path, data: bytes) -> ShardLayout:
    """As `read_layout`, from the bytes of the array's zarr.json."""
    try:
        meta = json.loads(data)
        codec = meta["codecs"][0]
        inner = [step["name"] for step in codec["configuration"]["codecs"]]
        if codec["name"] != "sharding_indexed" or inner != list(CODECS):
            raise ValueError(f"codecs {codec['name']} of {inner}")
        return ShardLayout(
            folder=folder,
            shape=tuple(meta["shape"]),
            dtype=np.dtype(meta["data_type"]).newbyteorder("<"),
            chunk=tuple(codec["configuration"]["chunk_shape"]),
            shard=tuple(meta["chunk_grid"]["configuration"]["chunk_shape"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedCache(
            f"{folder}/zarr.json is missing or is not the metadata of a sharded array ({error})."
        ) from error


def read_shard_index(layout: ShardLayout, shard: int) -> np.ndarray:
    """Offsets (chunks in this shard,) int64 of the encoded inner chunks.

    Raises:
        NoAccess: if the system refuses to read the file.
        DamagedCache: if it is missing or short, its index fails its checksum, or a chunk is absent or has
            another length than an uncompressed one must have.
    """
    path = layout.shard_file(shard)
    index_bytes = layout.chunks_per_shard * 16
    try:
        with access_to(path), open(path, "rb") as file:
            file.seek(-(index_bytes + CRC_BYTES), 2)
            tail = file.read()
    except OSError as error:
        raise DamagedCache(f"{path} is missing or too short to hold its index ({error}).") from error
    return index_offsets(tail, layout, shard, path)


def index_offsets(tail: bytes, layout: ShardLayout, shard: int, path: Path) -> np.ndarray:
    """As `read_shard_index`, from the bytes at the end of the shard file `path`."""
    if google_crc32c.value(tail[:-CRC_BYTES]) != int.from_bytes(tail[-CRC_BYTES:], "little"):
        raise DamagedCache(f"{path}: the index of this shard fails its checksum.")
    index = np.frombuffer(tail[:-CRC_BYTES], dtype="<u8").reshape(-1, 2)[: layout.chunks_in(shard)]
    if (index[:, 0] == ABSENT).any() or (index[:, 1] != layout.chunk_bytes).any():
        raise DamagedCache(f"{path}: the index of this shard lacks chunks that the array has.")
    return index[:, 0].astype(np.int64)


def is_chunk(data: bytes, expected: int) -> bool:
    """Whether an encoded chunk is the one with this CRC-32C: its values, and the sum that stands beside them.

    Other Zarr readers go by the sum beside the values, ours by the sidecar's: they must be one.
    """
    beside = int.from_bytes(data[-CRC_BYTES:], "little")
    return google_crc32c.value(data[:-CRC_BYTES]) == beside == expected


def stored_checksums(layout: ShardLayout) -> np.ndarray:
    """CRC-32C of every inner chunk of the array, in order, as the shards store them: (chunks,) uint32."""
    sums = np.empty(layout.chunks, dtype="<u4")
    for shard in range(layout.shards):
        offsets = read_shard_index(layout, shard)
        first = shard * layout.chunks_per_shard
        with open(layout.shard_file(shard), "rb") as file:
            for number, offset in enumerate(offsets):
                file.seek(int(offset) + layout.chunk_bytes - CRC_BYTES)
                sums[first + number] = int.from_bytes(file.read(CRC_BYTES), "little")
    return sums

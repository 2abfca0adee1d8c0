"""Reading one partition: rows of an array, straight from the shard's bytes, every chunk checked.

The Zarr API costs more Python per chunk than the bytes do, so this reads byte ranges through the shard index. Any
Zarr reader sees the same values: a test holds the two readings equal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.canonical import sha256_file
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, check_identity, mending, open_partition
from cache_schemas.schema import StoreSchema
from cache_schemas.shards import ShardLayout, is_chunk, read_layout, read_shard_index


class PartitionReader:
    """One valid partition, opened to be read. Open it in the process that reads, never before a fork.

    Raises:
        DamagedCache: on opening, if the partition is not valid, is of another schema version or (where one is given)
            another identity, or its sidecar is not the one its manifest lists; on reading, if a chunk's checksum is
            not the sidecar's.
    """

    def __init__(
        self,
        store_folder: Path,
        schema: StoreSchema,
        partition: str,
        member_digest: str,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.manifest = open_partition(store_folder, partition, member_digest)
        check_version(self.manifest, schema)
        if identity is not None:
            check_identity(self.manifest, identity)
        check_metadata(self.manifest)
        self._sums = read_sidecar(self.manifest)
        self._arrays = {spec.name: self._open_array(spec.name) for spec in schema.arrays}

    @property
    def attributes(self) -> dict[str, Any]:
        """The group's attributes."""
        return json.loads((self.manifest.store / "zarr.json").read_bytes())["attributes"]

    def has(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].layout.shape

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of an array, in its own dtype. The result may be read-only."""
        array = self._arrays[name]
        try:
            return array.read(start, array.layout.shape[0] if stop is None else stop)
        except DamagedCache as error:
            raise DamagedCache(f"{error}\n{mending(self.manifest.path)}") from error

    def _open_array(self, name: str) -> _ArrayReader:
        first, count = self.manifest.body["crc"]["arrays"][name]
        layout = read_layout(self.manifest.store / name)
        if layout.chunks != count:
            raise DamagedCache(
                f"{layout.folder}/zarr.json describes {layout.chunks} chunks, the manifest {count}.\n"
                f"{mending(self.manifest.path)}"
            )
        return _ArrayReader(layout, self._sums[first : first + count])


class _ArrayReader:
    def __init__(self, layout: ShardLayout, sums: np.ndarray) -> None:
        self.layout = layout
        self._sums = sums
        self._offsets: dict[int, np.ndarray] = {}

    def read(self, start: int, stop: int) -> np.ndarray:
        layout = self.layout
        if not 0 <= start <= stop <= layout.shape[0]:
            raise IndexError(f"rows {start} to {stop} of {layout.shape[0]} in {layout.folder}")
        if start == stop:
            return np.empty((0, *layout.shape[1:]), layout.dtype)
        rows = layout.chunk[0]
        first, last = start // rows, (stop - 1) // rows
        pieces = [self._chunk(number) for number in range(first, last + 1)]
        block = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return block[start - first * rows : stop - first * rows]

    def _chunk(self, number: int) -> np.ndarray:
        layout = self.layout
        shard, within = divmod(number, layout.chunks_per_shard)
        if shard not in self._offsets:
            self._offsets[shard] = read_shard_index(layout, shard)
        path = layout.shard_file(shard)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DamagedCache(f"{path} cannot be opened ({error}).") from error
        try:
            data = os.pread(handle, layout.chunk_bytes, int(self._offsets[shard][within]))
        finally:
            os.close(handle)
        if len(data) != layout.chunk_bytes or not is_chunk(data, self._sums[number]):
            raise DamagedCache(f"{path}: chunk {number} is not the one that was written (checksum).")
        return np.frombuffer(data, layout.dtype, count=prod(layout.chunk)).reshape(layout.chunk)


def check_version(manifest: Manifest, schema: StoreSchema) -> None:
    """Refuse another version of the schema, naming both."""
    found = manifest.body["schema"]
    if found != schema.tag:
        raise DamagedCache(
            f"{manifest.path} is of schema {found}; this version of Griddle reads {schema.tag}.\n"
            f"{mending(manifest.path)}"
        )


def check_metadata(manifest: Manifest) -> None:
    """A changed digit in a zarr.json would move or cut the values: compare those few small files whole."""
    for name, entry in manifest.body["files"].items():
        path = manifest.store / name
        if path.name == "zarr.json" and sha256_file(path) != entry["sha256"]:
            raise DamagedCache(
                f"{path} is not the one its manifest lists (sha256).\n{mending(manifest.path)}"
            )


def read_sidecar(manifest: Manifest) -> np.ndarray:
    """Checksums of all inner chunks, (chunks,) uint32, mapped into memory; refused if not those of the manifest."""
    expected = manifest.body["crc"]["sha256"]
    if sha256_file(manifest.sidecar) != expected:
        raise DamagedCache(
            f"{manifest.sidecar} is not the one its manifest lists (sha256).\n{mending(manifest.path)}"
        )
    return np.memmap(manifest.sidecar, dtype="<u4", mode="r") if manifest.body["crc"]["size"] else np.empty(0)

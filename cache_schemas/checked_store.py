"""A partition for `zarr` and `xarray`, every byte checked on the way.

Zarr's own reader takes a shard that is missing for zeros, and one of another partition for this one's: its checksums
fit. This store gives out only what the manifest lists and the sidecar confirms, and raises otherwise:

    xarray.open_zarr(CheckedStore(manifest_path))
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from cache_schemas import zarr_loop  # noqa: F401 - ends it quietly
from cache_schemas.access import access_to
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import mending, open_partition
from cache_schemas.reading import check_metadata, read_sidecar
from cache_schemas.shards import ShardLayout, index_offsets, is_chunk, layout_of, read_shard_index


class CheckedStore(Store):
    """The Zarr group of one valid partition, named by its manifest `<partition>.<member digest>.json`. To be read only.

    Raises:
        DamagedCache: on opening, if the partition is not valid, or its metadata or sidecar is not what the manifest
            lists; on reading, if a file is missing or a chunk's checksum is not the sidecar's.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, manifest_path: Path) -> None:
        super().__init__(read_only=True)
        partition, member_digest = manifest_path.name.rsplit(".", 2)[:2]
        self.manifest = open_partition(manifest_path.parent, partition, member_digest)
        self.root = self.manifest.store
        metadata = check_metadata(self.manifest)
        self._files: dict[str, dict[str, Any]] = self.manifest.body["files"]
        self._arrays = {
            name: (layout_of(self.root / name, metadata[f"{name}/zarr.json"]), first)
            for name, (first, _) in self.manifest.body["crc"]["arrays"].items()
        }
        self._sums = read_sidecar(self.manifest)
        self._offsets: dict[str, np.ndarray] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"CheckedStore({str(self.manifest.path)!r})"

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        if key not in self._files:  # Zarr looks for metadata of other formats, too
            return None
        data = await asyncio.to_thread(self.read, key, byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[ByteRequest | None], *, prototype: BufferPrototype, **_: Any
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Ranges of a file, each with its place among `byte_ranges`; newer releases of zarr read chunks by it.

        Zarr's own joins neighbouring chunks into one range, whose checksum nobody wrote, and wraps an error of ours into
        a group.
        """
        for place, byte_range in enumerate(byte_ranges):
            yield [(place, await self.get(key, prototype, byte_range))]

    def read(self, key: str, byte_range: ByteRequest | None = None) -> bytes:
        """The bytes of a file, or of a range of it, checked.

        Raises:
            NoAccess: naming the file, if the system refuses to read it.
            DamagedCache: naming the file and the mending command.
        """
        path = self.root / key
        try:
            with access_to(path), open(path, "rb") as file:
                if isinstance(byte_range, RangeByteRequest):
                    file.seek(byte_range.start)
                    data = file.read(byte_range.end - byte_range.start)
                elif isinstance(byte_range, SuffixByteRequest):
                    file.seek(-byte_range.suffix, 2)
                    data = file.read()
                elif isinstance(byte_range, OffsetByteRequest):
                    raise NotImplementedError("a shard is read whole, by its index or by its chunks")
                else:
                    data = file.read()
            self._check(key, path, data, byte_range)
        except OSError as error:
            raise DamagedCache(
                f"{path} is missing or too short ({error}).\n{mending(self.manifest.path)}"
            ) from error
        except DamagedCache as error:
            raise DamagedCache(f"{error}\n{mending(self.manifest.path)}") from error
        return data

    def _check(self, key: str, path: Path, data: bytes, byte_range: ByteRequest | None) -> None:
        name, *place = key.split("/")
        if not place or place[0] != "c":  # metadata
            if hashlib.sha256(data).hexdigest() != self._files[key]["sha256"]:
                raise DamagedCache(f"{path} is not the one its manifest lists (sha256).")
            return
        layout, first = self._arrays[name]
        shard = int(place[1])
        offsets = self._offsets_of(key, layout, shard)
        first += shard * layout.chunks_per_shard
        if isinstance(byte_range, SuffixByteRequest):
            if not np.array_equal(index_offsets(data, layout, shard, path), offsets):
                raise DamagedCache(f"{path}: its index has changed since the partition was opened.")
            return
        start = 0
        wanted = list(range(len(offsets)))
        if isinstance(byte_range, RangeByteRequest):
            start = byte_range.start
            wanted = np.flatnonzero(offsets == start).tolist()
            if len(wanted) != 1 or byte_range.end - start != layout.chunk_bytes:
                raise DamagedCache(f"{path}: no chunk lies at byte {start}.")
        for number in wanted:
            chunk = data[offsets[number] - start : offsets[number] - start + layout.chunk_bytes]
            if len(chunk) != layout.chunk_bytes or not is_chunk(chunk, self._sums[first + number]):
                raise DamagedCache(f"{path}: chunk {number} is not the one that was written (checksum).")

    def _offsets_of(self, key: str, layout: ShardLayout, shard: int) -> np.ndarray:
        if key not in self._offsets:
            self._offsets[key] = read_shard_index(layout, shard)
        return self._offsets[key]

    async def exists(self, key: str) -> bool:
        return key in self._files

    async def list(self) -> AsyncIterator[str]:
        for key in self._files:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._files:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        names = (key[len(start) :].split("/")[0] for key in self._files if key.startswith(start))
        for name in dict.fromkeys(names):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        raise PermissionError(f"{self!r} is to be read only")

    async def delete(self, key: str) -> None:
        raise PermissionError(f"{self!r} is to be read only")

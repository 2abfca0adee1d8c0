"""Reading one partition: opened once it is known to be whole, then read by rows, every chunk checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.access import access_to, read_regular
from cache_schemas.array_reading import ArrayReader
from cache_schemas.errors import DamagedCache
from cache_schemas.manifest import Manifest, check_identity, mending, open_partition
from cache_schemas.schema import StoreSchema
from cache_schemas.shards import ShardLayout, layout_of

PAGE = 4096
"""Bytes of memory that the system maps at least."""


class PartitionReader:
    """One valid partition, opened to be read. Open it in the process that reads, never before a fork.

    Raises:
        NoAccess: if the system refuses to read one of its files.
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
        metadata = check_metadata(self.manifest)
        self._group_sha256: str = self.manifest.body["files"]["zarr.json"]["sha256"]
        self._sums = read_sidecar(self.manifest)
        self._arrays = {
            spec.name: self._open_array(spec.name, metadata[f"{spec.name}/zarr.json"])
            for spec in schema.arrays
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """The group's attributes: read again each time, for they may be large, and checked each time.

        Raises:
            DamagedCache: if they are not those that the manifest lists.
        """
        data = _checked(f"{self.manifest.store}/zarr.json", self._group_sha256, self.manifest)
        return json.loads(data)["attributes"]

    def layout(self, name: str) -> ShardLayout:
        """How an array lies in its shards, as its checked zarr.json says."""
        return self._arrays[name].layout

    def has(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        return self._arrays[name].layout.shape

    def dtype(self, name: str) -> np.dtype:
        """The type of an array: the declared one, or the narrow one where the schema leaves a choice."""
        return self._arrays[name].layout.dtype

    def read(
        self, name: str, start: int = 0, stop: int | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows `start` to `stop` of an array, in its own dtype; into `out`, contiguous and of that type, where given."""
        array = self._arrays[name]
        try:
            return array.read(start, array.layout.shape[0] if stop is None else stop, out)
        except DamagedCache as error:
            raise self._with_mending(error) from error

    def read_rows(self, name: str, start: int, stop: int, rows: np.ndarray) -> np.ndarray:
        """Of rows `start` to `stop` those that `rows`, (n,) integers from 0, counts; other chunks are not read.

        Raises:
            IndexError: if there are not so many.
        """
        try:
            return self._arrays[name].read_rows(start, stop, rows)
        except DamagedCache as error:
            raise self._with_mending(error) from error

    def advise(self, name: str, start: int, stop: int) -> None:
        """Say that rows `start` to `stop` will be read soon: the system may read ahead."""
        try:
            self._arrays[name].advise(start, stop)
        except DamagedCache as error:
            raise self._with_mending(error) from error

    def _with_mending(self, error: DamagedCache) -> DamagedCache:
        return DamagedCache(f"{error}\n{mending(self.manifest.path)}")

    def _open_array(self, name: str, metadata: bytes) -> ArrayReader:
        first, count = self.manifest.body["crc"]["arrays"][name]
        layout = layout_of(self.manifest.store / name, metadata)
        if layout.chunks != count:
            raise DamagedCache(
                f"{layout.folder}/zarr.json describes {layout.chunks} chunks, the manifest {count}.\n"
                f"{mending(self.manifest.path)}"
            )
        return ArrayReader(layout, self._sums[first : first + count])


def check_version(manifest: Manifest, schema: StoreSchema) -> None:
    """Refuse another version of the schema, naming both."""
    tag = manifest.body["schema"]
    if tag != schema.tag:
        raise DamagedCache(
            f"{manifest.path} is of schema {tag}; this version of Griddle reads {schema.tag}.\n"
            f"{mending(manifest.path)}"
        )


def check_metadata(manifest: Manifest) -> dict[str, bytes]:
    """Compare the few small zarr.json files whole: one changed digit there would move or cut the values.

    Returns their bytes, by their names in the manifest.
    """
    store = str(manifest.store)
    metadata: dict[str, bytes] = {}
    for name, entry in manifest.body["files"].items():
        if name.rpartition("/")[2] == "zarr.json":
            metadata[name] = _checked(f"{store}/{name}", entry["sha256"], manifest)
    return metadata


def _checked(path: str, expected: str, manifest: Manifest) -> bytes:
    """The bytes of a small file, which must have this SHA-256."""
    try:
        with access_to(path):
            data = read_regular(path)
    except FileNotFoundError as error:
        raise DamagedCache(f"{path} is missing.\n{mending(manifest.path)}") from error
    if sha256(data).hexdigest() != expected:
        raise DamagedCache(f"{path} is not the one its manifest lists (sha256).\n{mending(manifest.path)}")
    return data


def read_sidecar(manifest: Manifest) -> np.ndarray:
    """Checksums of all inner chunks, (chunks,) uint32, mapped into memory; refused if not those of the manifest."""
    data = _checked(str(manifest.sidecar), manifest.body["crc"]["sha256"], manifest)
    if len(data) <= PAGE:  # mapped, it would take as much, and a mapping costs more than the bytes
        return np.frombuffer(data, "<u4")
    return np.asarray(np.memmap(manifest.sidecar, dtype="<u4", mode="r"))


class ZarrReader(PartitionReader):
    """The same rows through Zarr's own API: slower, to compare with and for stores whose codecs are not ours."""

    def read(
        self, name: str, start: int = 0, stop: int | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        import zarr

        from cache_schemas import zarr_loop  # noqa: F401 - ends its loop quietly

        if not hasattr(self, "_opened"):
            self._opened = dict(zarr.open_group(self.manifest.store, mode="r").arrays())
        values = np.asarray(self._opened[name][start:stop])
        if out is None:
            return values
        out[...] = values
        return out

    def read_rows(self, name: str, start: int, stop: int, rows: np.ndarray) -> np.ndarray:
        return self.read(name, start, stop)[rows]

"""Writing one partition: arrays shard by shard into a folder beside its place, then published in one rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from warnings import catch_warnings, filterwarnings

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from cache_schemas import zarr_loop  # noqa: F401 - ends it quietly
from cache_schemas.access import access_to
from cache_schemas.canonical import digest, sha256_file
from cache_schemas.disk import explain, writing_to
from cache_schemas.manifest import Manifest, manifest_path, read_manifest, seal
from cache_schemas.places import PARTITION_NAME
from cache_schemas.publish import (
    delete,
    files_below,
    fsync_folder,
    fsync_tree,
    remove_tree,
    set_aside,
    working_folder,
    write_bytes,
    write_json,
)
from cache_schemas.schema import StoreSchema
from cache_schemas.shards import read_layout, stored_checksums
from cache_schemas.sources import Sources, to_manifest


class PartitionWriter:
    """A context in which one partition is written; leaving it with an error leaves nothing behind.

    with PartitionWriter(folder, SCANS, partition="scene-0061", ...) as writer:
        writer.put("xyz", xyz)
        manifest = writer.publish(counts=..., left_out=[])
    """

    def __init__(
        self,
        store_folder: Path,
        schema: StoreSchema,
        *,
        partition: str,
        member_digest: str,
        identity: Mapping[str, Any],
        attributes: Mapping[str, Any],
    ) -> None:
        if not PARTITION_NAME.fullmatch(partition):
            raise ValueError(f"{partition!r} cannot name a partition: letters, digits, '-' and '_' only")
        self.store_folder = store_folder
        self.schema = schema
        self.partition = partition
        self.member_digest = member_digest
        self.identity = dict(identity)
        self.attributes = {
            "griddle_schema": schema.tag,
            "partition": partition,
            "identity": self.identity,
            **attributes,
        }
        self._arrays: dict[str, _Appender] = {}

    def __enter__(self) -> PartitionWriter:
        with writing_to(self.store_folder):
            self._folder = working_folder(self.store_folder, self.partition)
        try:
            with writing_to(self.store_folder):
                self._group = zarr.create_group(
                    store=self._folder / "zarr", zarr_format=3, attributes=self.attributes
                )
        except BaseException:
            delete(self._folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder.exists():
            try:
                remove_tree(self._folder)
            except OSError:  # a disk so full that it takes no new name
                delete(self._folder)
        if isinstance(error, OSError):
            cannot_write = explain(error, self.store_folder)
            if cannot_write is not None:
                raise cannot_write from error

    def create(self, name: str, shape: tuple[int, ...], dtype: str | None = None) -> _Appender:
        """An empty array of the schema, to be filled row by row with `append`; `dtype` where the schema leaves a choice."""
        spec = self.schema.array(name)
        dtype = dtype or spec.dtype
        if dtype not in spec.dtypes:
            raise ValueError(
                f"{self.schema.tag}: {name} is declared as {' or '.join(spec.dtypes)}, got {dtype}"
            )
        if len(shape) != len(spec.dims):
            raise ValueError(f"{self.schema.tag}: {name} has dimensions {spec.dims}, got shape {shape}")
        shard = spec.shard_shape(shape, dtype)
        array = self._group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=spec.chunk_shape(shape),
            shards=shard,
            filters=None,
            compressors=[Crc32cCodec()],
            fill_value=0,
            dimension_names=spec.dims,
            attributes={**spec.attributes},
            config={"write_empty_chunks": True},
        )
        self._arrays[name] = _Appender(array, dtype, shard[0])
        return self._arrays[name]

    def set_attribute(self, name: str, value: Any) -> None:
        """Another value of an attribute, where it is known only when the arrays are."""
        self.attributes[name] = value
        self._group.attrs[name] = value

    def put(self, name: str, values: np.ndarray) -> None:
        """A whole array at once, in the type it has."""
        self.create(name, values.shape, str(values.dtype)).append(values)

    def publish(
        self,
        *,
        counts: Mapping[str, int],
        left_out: list[dict[str, Any]],
        warnings: list[dict[str, Any]] | None = None,
        measured: Mapping[str, float] | None = None,
        sources: Sources | None = None,
        made_with: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Check, checksum, flush and rename into place; then the manifest. Idempotent, also against other writers.

        Args:
            warnings: of values that are unlikely, one entry a kind: `kind`, `what`, `why` and `count`. Without any, the
                manifest has no such entry.
            measured: figures about the content for the manifest; they must be functions of it.
            sources: of each file of the dataset that was read, what it held.
            made_with: recorded beside time, host and versions, and no identity: the device, for instance.
        """
        for name, appender in self._arrays.items():
            appender.finish(f"{self.schema.tag}: {name} of {self.partition}")
        shapes = {name: appender.shape for name, appender in self._arrays.items()}
        self.schema.check(shapes, self.attributes)
        # Offsets that do not divide their rows would cut scans or views wrongly, without an error.
        for problem in self.schema.misplaced_offsets(shapes, self._read_back):
            raise ValueError(f"{self.schema.tag}: {problem}")
        store = self._folder / "zarr"
        with catch_warnings():
            # Zarr warns that consolidated metadata of v3 is young; ours is written once and never changes.
            filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(store, zarr_format=3)
        sums, crc_arrays = self._checksums(store)
        files = {
            str(path.relative_to(store)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(store.rglob("*"))
            if path.is_file()
        }
        sidecar = self._folder / "crc"
        sidecar.write_bytes(sums)
        crc = {"size": len(sums), "sha256": sha256_file(sidecar), "arrays": crc_arrays}
        content_digest = digest({"files": files, "crc": crc})
        body = {
            "schema": self.schema.tag,
            "partition": self.partition,
            "member_digest": self.member_digest,
            "content_digest": content_digest,
            "identity": self.identity,
            "counts": dict(counts),
            "left_out": left_out,
            **({"warnings": warnings} if warnings else {}),
            "measured": dict(measured or {}),
            "files": files,
            "crc": crc,
        }
        if sources is not None:
            contents, times = to_manifest(sources)
            body, made_with = {**body, **contents}, {**(made_with or {}), **times}
        fsync_tree(self._folder)
        manifest = Manifest(
            manifest_path(self.store_folder, self.partition, self.member_digest), seal(body, made_with)
        )
        _place(store, manifest)
        write_bytes(manifest.sidecar, sums)
        write_json(manifest.path, manifest.body)
        return read_manifest(manifest.path)

    def _read_back(self, name: str) -> np.ndarray:
        return np.asarray(zarr.open_array(self._folder / "zarr" / name)[:])

    def _checksums(self, store: Path) -> tuple[bytes, dict[str, list[int]]]:
        """The sidecar's bytes, and for each array its first entry there and how many it has."""
        parts: list[bytes] = []
        where: dict[str, list[int]] = {}
        first = 0
        for spec in self.schema.arrays:
            sums = stored_checksums(read_layout(store / spec.name))
            where[spec.name] = [first, len(sums)]
            first += len(sums)
            parts.append(sums.tobytes())
        return b"".join(parts), where


class _Appender:
    """Fills one array in whole shards, so that no shard is ever written in part and then again."""

    def __init__(self, array: zarr.Array, dtype: str, shard_rows: int) -> None:
        self._array = array
        self._dtype = np.dtype(dtype)
        self._shard_rows = shard_rows
        self._waiting: list[np.ndarray] = []
        self._waiting_rows = 0
        self._written = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def append(self, rows: np.ndarray) -> None:
        """Add rows of the declared type and inner shape."""
        if rows.dtype != self._dtype or rows.shape[1:] != self.shape[1:]:
            raise ValueError(
                f"{self._array.name} takes {self._dtype} rows of shape {self.shape[1:]}, "
                f"got {rows.dtype} of {rows.shape[1:]}"
            )
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        while self._waiting_rows >= self._shard_rows:
            self._flush(self._shard_rows)

    def finish(self, what: str) -> None:
        if self._waiting_rows:
            self._flush(self._waiting_rows)
        if self._written != self.shape[0]:
            raise ValueError(f"{what}: {self._written} rows were written, {self.shape[0]} announced")

    def _flush(self, rows: int) -> None:
        block = np.concatenate(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._array[self._written : self._written + rows] = block[:rows]
        self._written += rows
        self._waiting = [block[rows:]]
        self._waiting_rows -= rows


def _place(store: Path, manifest: Manifest) -> None:
    """Rename the group to its content's name; if that is taken, keep whichever is sound."""
    while True:
        try:
            os.rename(store, manifest.store)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if _is_same(manifest):
                return
            try:
                set_aside(manifest.store)
            except FileNotFoundError:
                continue
        else:
            fsync_folder(manifest.store.parent)
            return


def _is_same(manifest: Manifest) -> bool:
    """Whether the group that is already in place holds exactly the files that the manifest lists."""
    if files_below(manifest.store) != set(manifest.body["files"]):
        return False
    try:
        with access_to(manifest.store):
            return all(
                sha256_file(manifest.store / name) == entry["sha256"]
                for name, entry in manifest.body["files"].items()
            )
    except OSError:
        return False

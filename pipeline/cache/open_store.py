"""One opened store: its partitions, what they hold, and its arrays over all partitions for dask."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, DamagedCache
from cache_schemas.manifest import Manifest, check_own_place, mending, read_manifest
from cache_schemas.places import place_of
from cache_schemas.reading import PartitionReader
from cache_schemas.schema import StoreSchema
from cache_schemas.stores import schema_of
from pipeline.cache.shard_rows import Part, Read, ShardRows, open_reader

if TYPE_CHECKING:
    import dask.array


@dataclass(frozen=True)
class OpenedStore:
    """A store of a cache. Its rows are those of its partitions, sorted by name, one after the other.

    A partition may have been written again, because recordings were added or replaced. Then the version that was written last
    is read, and `older` lists the others.

    Attributes:
        kind: `scans`, `labels`, `views` or `features`.
        name: its folder, relative to the cache.
        dataset: as the config names it.
        folder: where it lies.
    """

    kind: str
    name: str
    dataset: str
    folder: Path

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.partitions)} partition(s)"

    @cached_property
    def partitions(self) -> list[str]:
        return sorted(self._files)

    @property
    def schema(self) -> str:
        """As `name/version`, even if this version of Griddle cannot read it."""
        return self.manifest(self.partitions[0]).body["schema"]

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that make the store's id."""
        return self.manifest(self.partitions[0]).body["identity"]

    @property
    def counts(self) -> dict[str, int]:
        """What is in it, over all partitions: `images`, `points`, ..."""
        total: Counter[str] = Counter()
        for name in self.partitions:
            total.update(self.manifest(name).counts)
        return dict(total)

    @property
    def bytes(self) -> int:
        """Of all its files, without manifests and sidecars."""
        return sum(self.manifest(name).bytes for name in self.partitions)

    @property
    def left_out(self) -> dict[str, list[dict[str, Any]]]:
        """By partition: what is not in it, each with `what` and `why`."""
        return {name: items for name in self.partitions if (items := self.manifest(name).left_out)}

    @property
    def older(self) -> list[str]:
        """The manifests of partitions that were written again since."""
        newest = {self.manifest(name).path for name in self.partitions}
        return [path.name for paths in self._files.values() for path in paths if path not in newest]

    def manifest(self, partition: str) -> Manifest:
        """The manifest of a partition.

        Raises:
            BadInput: if the store has no such partition.
            DamagedCache: if the manifest is not what was written, or is of another partition or another store.
        """
        if partition not in self._files:
            raise BadInput(
                f"{self.folder} has no partition {partition!r}; it has {len(self.partitions)}, from "
                f"{self.partitions[0]} to {self.partitions[-1]}"
            )
        if partition not in self._newest:
            versions = [read_manifest(path) for path in self._files[partition]]
            for version in versions:
                check_own_place(version, place_of(self.kind, self.name).digest)
            self._newest[partition] = max(
                versions, key=lambda version: (version.body["made"]["time"], version.path.name)
            )
        return self._newest[partition]

    def partition(self, name: str) -> PartitionReader:
        """One partition, to be read with numpy: `read(array, start, stop)`, `shape(array)`, `attributes`.

        Raises:
            BadInput: if the store has no such partition.
            OtherVersion: if it is of a schema that this version does not read.
            DamagedCache: if it is not valid.
        """
        return open_reader(self.manifest(name))

    def attribute(self, name: str) -> list[Any]:
        """A list of names that every partition carries, such as `images` or `scans`, over all partitions."""
        return [item for partition in self.partitions for item in self.partition(partition).attributes[name]]

    def array(self, name: str, partition: str | None = None) -> dask.array.Array:
        """An array as stored, over all partitions or of one; a dask chunk is a whole shard.

        Raises:
            BadInput: if the schema has no such array; for offsets without a partition, because they count within it.
            DamagedCache: if a partition is not valid; when it is computed, if a chunk is not the one that was written.
        """
        known = [spec.name for spec in self._schema.arrays]
        if name not in known:
            raise BadInput(f"{self.name} is of schema {self.schema}: it has no array {name!r}, but {known}")
        if partition is None and name in self._schema.ragged:
            raise BadInput(
                f"{name} counts rows within a partition; name one: array({name!r}, partition={self.partitions[0]!r})"
            )
        # A partition may store its numbers in a narrower type. The array over all partitions has the declared type.
        dtype = next((spec.dtype for spec in self._schema.arrays if spec.name == name and spec.narrow), None)
        return self.rows(name, partial(_read_array, name=name), dtype=dtype, partition=partition)

    def rows(
        self, name: str, read: Read, *, dtype: str | None = None, partition: str | None = None
    ) -> dask.array.Array:
        """As `array(name)`, with the same shape and shards, but with the values that `read` returns, of type `dtype`."""
        parts: list[Part] = []
        shapes: dict[tuple[tuple[int, ...], np.dtype], Path] = {}
        for partition_name in self.partitions if partition is None else [partition]:
            reader = self.partition(partition_name)
            manifest, layout = reader.manifest, reader.layout(name)
            kind = layout.dtype if dtype is None else np.dtype(dtype)
            shapes.setdefault((layout.shape[1:], kind), manifest.path)
            parts.append(Part(manifest.path, manifest.content_digest, layout.shape[0], layout.shard[0]))
        if len(shapes) > 1:
            kinds = "\n".join(f"  {path}: {dtype} {list(inner)}" for (inner, dtype), path in shapes.items())
            raise DamagedCache(
                f"the partitions of {self.folder} do not belong together, their {name} have rows of\n{kinds}\n"
                f"{mending(list(shapes.values())[-1])}"
            )
        ((inner, values),) = shapes
        content = digest(
            [self.name, name, str(read), str(values), [part.content_digest for part in parts]], 32
        )
        return ShardRows(tuple(parts), inner, values, read).to_dask(f"{name}-{content}")

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The manifests' files by partition, unread."""
        files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob("[!.]*.json")):
            files.setdefault(path.name.split(".")[0], []).append(path)
        return files

    @cached_property
    def _newest(self) -> dict[str, Manifest]:
        return {}

    @cached_property
    def _schema(self) -> StoreSchema:
        return schema_of(self.manifest(self.partitions[0]))


def _read_array(reader: PartitionReader, start: int, stop: int, *, name: str) -> np.ndarray:
    return reader.read(name, start, stop)

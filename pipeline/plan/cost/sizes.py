"""How many files and bytes one partition of a store takes, from the store's schema and the sizes of its dimensions.

Arrays are counted to the byte; only the text around them (metadata, manifest) is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cache_schemas import schema as schemas
from cache_schemas.canonical import canonical_json
from cache_schemas.schema import ArraySpec, StoreSchema
from pipeline.config.model import Teacher
from pipeline.config.model_names import channels, stride

CRC, INDEX_ENTRY = 4, 16
"""Bytes of a checksum, and of a chunk's place in its shard's index."""
ARRAY_TEXT, FILE_TEXT, NAME_TEXT, SOURCE_TEXT, STORE_TEXT = 2_900, 150, 90, 62, 1_100
"""Bytes of JSON, about: of an array (its own, and its copy in the group's), of a file in the manifest, of the name of
an image or scan, of what a file held, and of the rest. They matter only where a partition is tiny."""


@dataclass(frozen=True)
class Size:
    """Files and bytes on disk."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.files + other.files, self.bytes + other.bytes)


def partition_size(
    schema: StoreSchema,
    sizes: dict[str, int],
    largest: dict[str, int] | None = None,
    *,
    names: int,
    identity: dict[str, Any],
    sources: int = 0,
) -> Size:
    """One partition of a store: its group, sidecar and manifest.

    Args:
        sizes: of every dimension of the schema.
        largest: the largest value of an array whose type depends on it, by name.
        names: of images and scans that the attributes list.
        identity: of the store, which metadata and manifest repeat.
        sources: files that it is made of; the manifest says what each held.
    """
    arrays = [_array(spec, sizes, (largest or {}).get(spec.name)) for spec in schema.arrays]
    chunks = sum(chunks for _, chunks in arrays)
    stored = sum((size for size, _ in arrays), Size())
    files = stored.files + len(arrays) + 3  # zarr.json of each array and of the group, sidecar, manifest
    # In the group, in the manifest; a feature store also names its teacher whole, the weights' digest and licence.
    repeated = 4 if "teacher" in schema.attributes else 2
    text = (
        len(arrays) * ARRAY_TEXT + files * FILE_TEXT + names * NAME_TEXT + sources * SOURCE_TEXT + STORE_TEXT
    )
    text += repeated * int(1.3 * len(canonical_json(identity)))
    return Size(files, stored.bytes + chunks * CRC + text)


def grid_shape(teacher: Teacher) -> tuple[int, int, int] | None:
    """Rows, columns and channels of a teacher's patch grid, or None where its name does not say."""
    side, width = stride(teacher.model, teacher.layer), channels(teacher.model, teacher.layer)
    if side is None or width is None:
        return None
    return teacher.image_size[0] // side, teacher.image_size[1] // side, width


def _array(spec: ArraySpec, sizes: dict[str, int], largest: int | None) -> tuple[Size, int]:
    """Its shard files, and how many inner chunks they hold."""
    shape = tuple(sizes[dim] for dim in spec.dims)
    chunk = spec.chunk_shape(shape)
    chunk_bytes = prod(chunk) * np.dtype(_dtype(spec, largest)).itemsize
    chunks = max(1, -(-shape[0] // chunk[0]))
    per_shard = min(chunks, max(1, schemas.SHARD_BYTES // chunk_bytes))
    shards = -(-chunks // per_shard)
    # A last chunk is stored whole, and every shard has an index of all chunks that it could hold.
    data = chunks * (chunk_bytes + CRC)
    return Size(shards, data + shards * (per_shard * INDEX_ENTRY + CRC)), chunks


def _dtype(spec: ArraySpec, largest: int | None) -> str:
    narrow = getattr(spec, "narrow", None)
    if narrow is None or largest is None or largest > np.iinfo(narrow).max:
        return spec.dtype
    return str(narrow)

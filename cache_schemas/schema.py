"""What a store declares about itself: its arrays, their types, dimensions, units and chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SHARD_BYTES = 256 * 2**20
"""A shard file grows to about this size; a partition then has few files, and one shard fits in memory."""

CODECS = ("bytes", "crc32c")
"""Of every inner chunk: its values as they lie in memory, little endian, and their CRC-32C. Shards hold these chunks
and an index at the end, with a CRC-32C of its own (Zarr v3's `sharding_indexed`)."""

COMMON_ATTRIBUTES = {
    "griddle_schema": "the store's schema, as `name/version`",
    "partition": "the partition's name",
    "identity": "the fields that make the store's id, and the schema",
}
"""Group attributes of every partition of every store."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store. The first dimension is the one that is chunked; the others are whole in every chunk.

    Attributes:
        dtype: numpy name, little endian on disk.
        dims: a name per dimension; the first one counts rows.
        chunk_rows: rows in one inner chunk, the unit that is read and checksummed.
        units: of the values, as UDUNITS spells them, or a word where there are none.
        about: one sentence for the reader of `xarray.open_zarr`.
        frame: the frame, or the convention by which pixels are counted, of values that are coordinates.
        narrow: a smaller integer type for a partition whose values all fit it. Which of the two an array has follows
            from its values alone, so it is part of the data and enters no id.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    chunk_rows: int
    units: str
    about: str
    narrow: str | None = None
    frame: str | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """What stands beside the array on disk."""
        frame = {} if self.frame is None else {"frame": self.frame}
        return {"units": self.units, **frame, "about": self.about}

    @property
    def dtypes(self) -> tuple[str, ...]:
        """All types that an array of this name may have."""
        return (self.dtype,) if self.narrow is None else (self.dtype, self.narrow)

    def fitted(self, values: np.ndarray) -> np.ndarray:
        """Unsigned integers in the narrowest declared type that holds them all."""
        import numpy as np

        if self.narrow is not None and values.max(initial=0) <= np.iinfo(self.narrow).max:
            return values.astype(self.narrow, copy=False)
        return values.astype(self.dtype, copy=False)

    def chunk_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (max(1, min(self.chunk_rows, shape[0])), *shape[1:])

    def shard_shape(self, shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
        """Whole chunks, as many as the array has or as fit `SHARD_BYTES`."""
        import numpy as np

        chunk = self.chunk_shape(shape)
        chunk_bytes = prod(chunk) * np.dtype(dtype).itemsize
        chunks_needed = max(1, -(-shape[0] // chunk[0]))
        return (chunk[0] * min(chunks_needed, max(1, SHARD_BYTES // chunk_bytes)), *chunk[1:])


CHUNK_ROWS = 4096
"""Rows of an inner chunk, of all arrays but patch grids."""


def offsets(name: str, dim: str, about: str) -> ArraySpec:
    """An array that divides the rows of others: piece i is the rows offsets[i] to offsets[i + 1]."""
    return ArraySpec(name, "uint64", (dim,), CHUNK_ROWS, "row", about)


def row_numbers(name: str, dims: tuple[str, ...], about: str) -> ArraySpec:
    """An array of row numbers: 32 bits wide, or 16 in a partition where all of them fit."""
    return ArraySpec(name, "uint32", dims, CHUNK_ROWS, "row", about, narrow="uint16")


@dataclass(frozen=True)
class StoreSchema:
    """A store's declaration: what every partition of it holds.

    Attributes:
        store: `scans`, `labels`, `views`, `full_scans` or `features`.
        version: raised by hand when the arrays change shape or meaning; part of every id.
        arrays: in the order in which they are written and documented.
        identity: the fields that make the store's id, beside the version, each with a sentence about it.
        attributes: the group attributes every partition carries beside the common ones, each with a sentence.
        sizes: dimensions that have one size in every partition.
        ragged: arrays of offsets, each with the dimension whose rows they divide: they rise from 0 to its size.
    """

    store: str
    version: int
    arrays: tuple[ArraySpec, ...]
    identity: dict[str, str]
    attributes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    ragged: dict[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return f"{self.store}/{self.version}"

    def array(self, name: str) -> ArraySpec:
        for spec in self.arrays:
            if spec.name == name:
                return spec
        raise KeyError(f"{self.tag} declares no array {name!r}, but {[spec.name for spec in self.arrays]}")

    def misplaced_offsets(
        self, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray]
    ) -> Iterator[str]:
        """In words, the arrays of offsets that do not rise from 0 to the rows which they divide.

        read: gives an array by its name.
        """
        import numpy as np

        for name, dim in self.ragged.items():
            rows = next(shapes[spec.name][spec.dims.index(dim)] for spec in self.arrays if dim in spec.dims)
            bounds = read(name).astype(np.int64)
            if not len(bounds) or bounds[0] != 0 or bounds[-1] != rows or (np.diff(bounds) < 0).any():
                yield f"{name} must rise from 0 to the {rows} rows of {dim}"

    def check(self, shapes: dict[str, tuple[int, ...]], attributes: dict[str, Any]) -> None:
        """Refuse a partition that this schema does not declare as it is.

        Raises:
            ValueError: naming the array, dimension or attribute, what was declared and what was given.
        """
        declared = [spec.name for spec in self.arrays]
        if sorted(shapes) != sorted(declared):
            raise ValueError(f"{self.tag} declares the arrays {declared}, got {sorted(shapes)}")
        missing = sorted(set(self.attributes) - set(attributes))
        if missing:
            raise ValueError(f"{self.tag} needs the attributes {missing}")
        sizes = {dim: ("the schema", size) for dim, size in self.sizes.items()}
        for spec in self.arrays:
            for dim, size in zip(spec.dims, shapes[spec.name], strict=True):
                other, known = sizes.setdefault(dim, (spec.name, size))
                if known != size:
                    raise ValueError(
                        f"{self.tag}: dimension {dim} is {size} in {spec.name} and {known} in {other}"
                    )

"""The page docs/stores.md, generated from the schemas: every array, attribute and identity field of every store."""

from __future__ import annotations

from cache_schemas.places import PLACES
from cache_schemas.schema import CODECS, COMMON_ATTRIBUTES, SHARD_BYTES, ArraySpec, StoreSchema
from cache_schemas.stores import declared

MANIFEST_FIELDS = {
    "griddle": "what the file is",
    "format": "the version of this table",
    "schema": "the store's schema, as `name/version`",
    "partition": "the partition's name; the file is `<partition>.<member digest>.json`",
    "member_digest": "of the dataset's files that this store reads of the partition: names and sizes",
    "content_digest": "of `files` and `crc`; the store is `<partition>.<content digest>.zarr`",
    "identity": "the fields that make the store's id, and the schema",
    "counts": "what is in it",
    "left_out": "what is not, each with `what` and `why`",
    "warnings": "of values that are unlikely, one entry a kind, with `kind`, `what`, `why` and `count`; only where there are any",
    "measured": "figures about the content: of features how near the stored values are to the computed ones",
    "files": "size and SHA-256 of every file of the store",
    "crc": "size and SHA-256 of the sidecar, and for each array its first entry there and how many it has",
    "sources": "of each lidar, label or image file that it was made of, in the order of the scans or images (of labels first the label "
    "files, then the lidar files), the first 32 hex digits of its "
    "SHA-256; null where it could not be opened; absent where it was not recorded yet",
    "digest": "of all the above: SHA-256 of the JSON with sorted keys and no spaces",
    "made": "time, host and versions, and when each of `sources` was last written: recorded, outside every digest",
}

LATER_FIELDS = ("warnings", "sources")
"""Fields that a manifest may lack: they came after stores were made, or say nothing where they are empty."""

INTRODUCTION = f"""\
# The stores

What is on disk, array by array. A store is a folder of partitions; a partition is a Zarr v3 group, its manifest and a
sidecar of checksums. [cache.md](cache.md) says how they are named, written and checked, and [api.md](api.md) how to
read them.

This page is generated from `cache_schemas/`, one module a store: `python -m cache_schemas.reference > docs/stores.md`.

## What all have in common

* Rows are the first dimension. An inner chunk holds as many rows as the tables say (or all, if there are fewer) and the
  whole of all other dimensions; it is what is read and checked at once.
* A shard is one file: as many inner chunks as the array has, or as fit into {SHARD_BYTES // 2**20} MiB.
* Codecs of an inner chunk: {", ".join(f"`{name}`" for name in CODECS)}: little endian, not compressed, CRC-32C at its end.
  Chunks of nothing but zeros are written like any other; one that is absent is damage, never a fill value.
* Ragged data is two plain arrays: values one after the other, and offsets, one more than there are pieces. Piece i is
  the rows offsets[i] to offsets[i + 1]. Offsets and other row numbers count within their partition.
* Every array has the attributes `units`, `about` and, where its values are coordinates, `frame`; the tables repeat
  them. Every group has the attributes of its table and these; metadata is consolidated.
* What is written once stays readable. **New arrays go into a store of their own kind** (as `full_scans/1` did). Raising a
  version would change the ids of that store and of everything that reads it, so that all users would compute them anew,
  even those who do not need the new array. A version is raised only when an array's shape or meaning was wrong; the new
  store then lies beside the old one.
* Stores, runs and imports that were made before a change of Griddle keep their ids, and are taken as they are. Where one did
  not record something that is asked for today, the answer is "not recorded", said once. Only changed content makes a new id.
"""

MANIFEST = """\
## The manifest

Small JSON, written last: what it does not name is not there.
"""

_PLACE_NAMES = {
    "scans": ("<scan id>",),
    "labels": ("<scan id>", "<label id>"),
    "views": ("<view id>",),
    "full_scans": ("<full-scan id>",),
    "features": ("<teacher id>", "<dataset>"),
}

Storages = dict[str, StoreSchema]
"""The schemas of one tag by how values are stored; one without a name where there is but one way."""


def reference_text() -> str:
    """What docs/stores.md must hold."""
    by_tag: dict[str, Storages] = {}
    for name, schema in declared().items():
        by_tag.setdefault(schema.tag, {})[name.removeprefix(schema.tag).strip()] = schema
    common = _table("attribute of every group", COMMON_ATTRIBUTES)
    fields = _table("field", MANIFEST_FIELDS)
    stores = [_store(storages) for storages in by_tag.values()]
    return "\n".join([INTRODUCTION, *common, MANIFEST, *fields, *stores])


def _store(storages: Storages) -> str:
    # of several ways the one with most arrays: what another lacks stands in the table of storages
    schema = max(storages.values(), key=lambda candidate: len(candidate.arrays))
    place = PLACES[schema.store].replace("*", "{}").format(*_PLACE_NAMES[schema.store])
    bounds = [f"`{name}` divides the rows of dimension {dim}" for name, dim in schema.ragged.items()]
    return "\n".join(
        [
            f"## {schema.tag}\n",
            f"`<cache>/{place}/<partition>.<content digest>.zarr`\n",
            *(_storages(storages) if len(storages) > 1 else []),
            "| array | type | dimensions | rows of a chunk | units | meaning |",
            "|---|---|---|---|---|---|",
            *(_array(storages, spec, schema.sizes) for spec in schema.arrays),
            "",
            *([f"{'; '.join(bounds)}: from 0, rising.\n"] if bounds else []),
            *_table("attribute of the group", schema.attributes),
            *_table("its id is made of", {"schema": f"`{schema.tag}`", **schema.identity}),
        ]
    )


def _storages(storages: Storages) -> list[str]:
    """Which arrays each way of storing values has, and of which type."""
    rows = [
        f"| `{storage}` | {', '.join(f'`{spec.name}` {spec.dtype}' for spec in schema.arrays)} |"
        for storage, schema in storages.items()
    ]
    return ["`identity.storage` says how values are stored:\n", "| storage | arrays |\n|---|---|", *rows, ""]


def _array(storages: Storages, spec: ArraySpec, sizes: dict[str, int]) -> str:
    dims = " × ".join(f"{dim} {sizes[dim]}" if dim in sizes else dim for dim in spec.dims)
    arrays = [array for schema in storages.values() for array in schema.arrays if array.name == spec.name]
    types = " or ".join(dict.fromkeys(array.dtype for array in arrays))
    frame = f" Frame: {spec.frame}." if spec.frame else ""
    return f"| `{spec.name}` | {types} | {dims} | {spec.chunk_rows:,} | {spec.units} | {spec.about}{frame} |"


def _table(head: str, rows: dict[str, str]) -> list[str]:
    return [
        f"| {head} | meaning |\n|---|---|",
        *(f"| `{name}` | {about} |" for name, about in rows.items()),
        "",
    ]


if __name__ == "__main__":
    print(reference_text(), end="")

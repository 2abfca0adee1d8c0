"""Checking one partition whole: every name, size, SHA-256, checksum and count. All that is wrong is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.access import access_to, open_regular
from cache_schemas.canonical import digest, sha256_file
from cache_schemas.contents import StoreFolder
from cache_schemas.errors import DamagedCache, NoAccess
from cache_schemas.manifest import Manifest, differences, out_of_place, read_manifest
from cache_schemas.publish import files_below, json_bytes
from cache_schemas.reading import PartitionReader
from cache_schemas.recount import contradictions
from cache_schemas.schema import StoreSchema
from cache_schemas.shards import is_chunk, read_layout, read_shard_index
from cache_schemas.stores import schema_of

BLOCK = 2**22
"""Bytes that are read at once between chunks."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the file or folder that it is about.
        manifest: of the partition that is to be computed anew, or the lot manifest that is to be written anew.
    """

    path: Path
    what: str
    manifest: Path

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass
class Verified:
    """What was looked at of one partition, and what is wrong with it.

    Attributes:
        unreachable: what the system refused to read; what was not looked at for it may be sound or not.
    """

    manifest: Manifest | None = None
    unreachable: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    chunks: int = 0


def verify_partition(store: StoreFolder, path: Path, identity: Mapping[str, Any] | None = None) -> Verified:
    """Check the partition whose manifest is `path`, reading every byte of it.

    Args:
        identity: what it must have been made for, where that is known.
    """
    result = Verified()
    try:
        _check(store, path, identity, result)
    except NoAccess as error:
        result.unreachable.append(Problem(path, str(error), path))
    return result


def _check(store: StoreFolder, path: Path, identity: Mapping[str, Any] | None, result: Verified) -> None:
    """As `verify_partition`, into `result`, until the system refuses to read a file.

    Raises:
        NoAccess: naming that file.
    """

    def wrong(where: Path, what: str) -> None:
        result.problems.append(Problem(where, what, path))

    try:
        manifest = read_manifest(path)
    except DamagedCache as error:
        wrong(path, _said(error, path))
        return
    result.manifest = manifest
    for what in _names(store, manifest, identity):
        wrong(path, what)
    try:
        schema = schema_of(manifest)
    except DamagedCache as error:
        wrong(path, _said(error, path))
        return
    before = len(result.problems)
    _check_files(manifest, result, wrong)
    if len(result.problems) == before:
        _check_chunks(manifest, schema, result, wrong)
    if not result.problems:
        reader = PartitionReader(store.path, schema, manifest.partition, manifest.member_digest)
        for what in (*_attributes(reader), *contradictions(reader, schema)):
            wrong(manifest.store, what)


def _names(store: StoreFolder, manifest: Manifest, identity: Mapping[str, Any] | None) -> Iterator[str]:
    yield from out_of_place(manifest, store.place.digest)
    body = manifest.body
    if digest({"files": body["files"], "crc": body["crc"]}) != manifest.content_digest:
        yield f"its content digest {manifest.content_digest} is not that of the files which it lists"
    if manifest.path.read_bytes() != json_bytes(body):
        yield "is not spelled as it was written"
    for difference in differences(body["identity"], identity) if identity is not None else ():
        yield f"its identity is not that of the config: {difference}"


def _check_files(manifest: Manifest, result: Verified, wrong: Any) -> None:
    listed = manifest.body["files"]
    for name in sorted(files_below(manifest.store) - set(listed)):
        wrong(manifest.store / name, "is in the store, but not in the manifest")
    entries = {manifest.store / name: entry for name, entry in listed.items()}
    for path, entry in (entries | {manifest.sidecar: manifest.body["crc"]}).items():
        try:
            with access_to(path):
                size = path.stat().st_size
            if size != entry["size"]:
                wrong(path, f"has {size} bytes, the manifest says {entry['size']}")
            elif path.name != "zarr.json" and path != manifest.sidecar:
                continue  # shards are hashed where their chunks are checked, in one reading
            else:
                with access_to(path):
                    sha = sha256_file(path)
                if sha != entry["sha256"]:
                    wrong(path, "its SHA-256 is not the one in the manifest")
        except FileNotFoundError:
            wrong(path, "is missing")
        except OSError as error:
            wrong(path, f"cannot be read ({error.strerror})")
    result.files = len(entries) + 2
    result.bytes = manifest.bytes + manifest.body["crc"]["size"]


def _check_chunks(manifest: Manifest, schema: StoreSchema, result: Verified, wrong: Any) -> None:
    """SHA-256 of every shard, and CRC-32C of every chunk against the sidecar."""
    with access_to(manifest.sidecar):
        sums = np.fromfile(manifest.sidecar, "<u4")
    where = manifest.body["crc"]["arrays"]
    if sorted(where) != sorted(spec.name for spec in schema.arrays) or len(sums) != sum(
        count for _, count in where.values()
    ):
        wrong(manifest.path, f"does not list the checksums of the arrays of {schema.tag}")
        return
    hashed: set[str] = set()
    for spec in schema.arrays:
        first, count = where[spec.name]
        try:
            layout = read_layout(manifest.store / spec.name)
            if layout.chunks != count or str(layout.dtype) not in spec.dtypes:
                wrong(
                    layout.folder / "zarr.json",
                    f"describes {layout.chunks} chunks of {layout.dtype}, the manifest and the schema {count} of "
                    f"{' or '.join(spec.dtypes)}",
                )
                continue
            for shard in range(layout.shards):
                path = layout.shard_file(shard)
                name = str(path.relative_to(manifest.store))
                hashed.add(name)
                offsets = read_shard_index(layout, shard)
                begin = first + shard * layout.chunks_per_shard
                with access_to(path):
                    sha, broken = _read_shard(path, offsets, layout.chunk_bytes, sums[begin:])
                if sha != manifest.body["files"][name]["sha256"]:
                    wrong(path, "its SHA-256 is not the one in the manifest")
                for number in broken:
                    wrong(path, f"chunk {number} is not the one that was written (checksum)")
                result.chunks += len(offsets)
        except DamagedCache as error:
            line = str(error).splitlines()[0]
            wrong(next((p for p in _paths(manifest) if str(p) in line), manifest.store / spec.name), line)
        except (OSError, KeyError, ValueError) as error:
            wrong(manifest.store / spec.name, f"cannot be read ({error})")
    for name in manifest.body["files"]:
        if not name.endswith("zarr.json") and name not in hashed:
            wrong(manifest.store / name, "is listed in the manifest, but is no shard of any array")


def _read_shard(path: Path, offsets: np.ndarray, size: int, sums: np.ndarray) -> tuple[str, list[int]]:
    """SHA-256 of a shard file, and the numbers of the chunks that are not those of the sums; the file is read once.

    It is not mapped into memory: there, a disk that fails would end the process.

    Args:
        offsets: (chunks,) int64, of the chunks in the file. size: bytes of each. sums: their CRC-32C, in the same order.

    Raises:
        OSError: if the file cannot be read.
    """
    whole, broken, read = sha256(), [], 0
    with open_regular(path) as file:
        for number in np.argsort(offsets, kind="stable").tolist():
            offset = int(offsets[number])
            if offset < read:  # over another chunk: what lies there is that one's
                broken.append(number)
                continue
            while read < offset and (between := file.read(min(offset - read, BLOCK))):
                whole.update(between)
                read += len(between)
            chunk = file.read(size)
            whole.update(chunk)
            read += len(chunk)
            if len(chunk) != size or not is_chunk(chunk, int(sums[number])):
                broken.append(number)
        while rest := file.read(BLOCK):
            whole.update(rest)
    return whole.hexdigest(), sorted(broken)


def _attributes(reader: PartitionReader) -> Iterator[str]:
    """The store's attributes repeat what the manifest says, for readers that open the store alone."""
    body, attributes = reader.manifest.body, reader.attributes
    pairs = {"griddle_schema": "schema", "partition": "partition", "identity": "identity"}
    for name, key in pairs.items():
        if attributes.get(name) != body[key]:
            yield f"its attribute {name} is {attributes.get(name)!r}, the manifest says {body[key]!r}"


def _paths(manifest: Manifest) -> list[Path]:
    return [manifest.store / name for name in manifest.body["files"]]


def _said(error: DamagedCache, path: Path) -> str:
    """The error's first line without the path that stands before it anyway."""
    return str(error).splitlines()[0].removeprefix(f"{path} ").removeprefix(f"{path}: ")

"""The manifest: the small JSON file, written last, that says a partition is complete and what is in it."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cache_schemas.access import access_to, is_there, no_access, read_regular
from cache_schemas.canonical import canonical_json, digest
from cache_schemas.errors import DamagedCache

KIND = "griddle partition"
FORMAT = 2
DIGEST_LENGTH = 64


@dataclass(frozen=True)
class Manifest:
    """A partition's manifest, as read from `path`."""

    path: Path
    body: dict[str, Any]

    def without(self, *keys: str) -> Manifest:
        """The same but for these entries of its body."""
        return Manifest(self.path, {key: value for key, value in self.body.items() if key not in keys})

    @property
    def partition(self) -> str:
        return self.body["partition"]

    @property
    def member_digest(self) -> str:
        return self.body["member_digest"]

    @property
    def content_digest(self) -> str:
        return self.body["content_digest"]

    @property
    def counts(self) -> dict[str, int]:
        return self.body["counts"]

    @property
    def left_out(self) -> list[dict[str, Any]]:
        return self.body["left_out"]

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """Of values that are unlikely, one entry a kind; none in what was made before values were looked at."""
        return self.body.get("warnings", [])

    @property
    def lost_scans(self) -> set[str]:
        """The names of the scans whose files could not be read."""
        return {item["scan"] for item in self.left_out if "scan" in item}

    @cached_property
    def store(self) -> Path:
        """The Zarr group that this manifest describes."""
        return self.path.parent / f"{self.partition}.{self.content_digest}.zarr"

    @cached_property
    def sidecar(self) -> Path:
        """The file of all inner chunks' checksums."""
        return self.path.parent / f"{self.partition}.{self.content_digest}.crc"

    @property
    def bytes(self) -> int:
        return sum(entry["size"] for entry in self.body["files"].values())


def manifest_path(store_folder: Path, partition: str, member_digest: str) -> Path:
    return store_folder / f"{partition}.{member_digest}.json"


def seal(body: dict[str, Any], made_with: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`body` with its own digest (of all but `made`) and the `made` section: when, where and with what.

    `made` has a digest of its own, so that no bit of a manifest can change unseen; it is no part of the other.
    """
    sealed = {"griddle": KIND, "format": FORMAT, **body}
    section = {**made(), **(made_with or {})}
    return {**sealed, "digest": digest(sealed, DIGEST_LENGTH), "made": {**section, "digest": digest(section)}}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check it against itself.

    Raises:
        NoAccess: if the system refuses to read it.
        DamagedCache: if it is missing, no JSON, no manifest, of another format, or not what its digest says.
    """
    try:
        with access_to(path):
            body = json.loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise DamagedCache(f"{path} cannot be read as a manifest ({error}).\n{mending(path)}") from error
    if not isinstance(body, dict) or body.get("griddle") != KIND:
        raise DamagedCache(f"{path} is not a partition manifest.\n{mending(path)}")
    if body.get("format") != FORMAT:
        raise DamagedCache(
            f"{path} has manifest format {body.get('format')}; this version of Griddle reads {FORMAT}.\n{mending(path)}"
        )
    sealed = {key: value for key, value in body.items() if key not in ("digest", "made")}
    if digest(sealed, DIGEST_LENGTH) != body.get("digest"):
        raise DamagedCache(f"{path} does not agree with its own digest: it was changed.\n{mending(path)}")
    if not _is_made(body.get("made")):
        raise DamagedCache(f"{path}: its section `made` was changed.\n{mending(path)}")
    return Manifest(path, body)


def open_partition(
    store_folder: Path, partition: str, member_digest: str, identity: Mapping[str, Any] | None = None
) -> Manifest:
    """The manifest of a partition that is valid: its digests, files and sizes agree, and its identity is the wanted one.

    Raises:
        NoAccess: naming the first file that the system refuses to read.
        DamagedCache: naming the first file that is missing or has another size, or the fields in which the identity
            differs, and the mending command.
    """
    manifest = read_manifest(manifest_path(store_folder, partition, member_digest))
    check_own_place(manifest)
    if identity is not None:
        check_identity(manifest, identity)
    store = str(manifest.store)  # plain strings: a `Path` costs more than the system's answer
    wanted = [(f"{store}/{name}", entry["size"]) for name, entry in manifest.body["files"].items()]
    wanted.append((str(manifest.sidecar), manifest.body["crc"]["size"]))
    for path, size in wanted:
        try:
            actual = os.stat(path).st_size
        except OSError as error:
            refused = no_access(error, path)
            if refused is not None:
                raise refused from error
            raise DamagedCache(f"{path} is missing.\n{mending(manifest.path)}") from error
        if actual != size:
            raise DamagedCache(
                f"{path} has {actual} bytes, its manifest says {size}.\n{mending(manifest.path)}"
            )
    return manifest


def is_valid(
    store_folder: Path, partition: str, member_digest: str, identity: Mapping[str, Any] | None = None
) -> bool:
    """Whether `open_partition` would succeed; what is damaged is to be computed again.

    Raises:
        NoAccess: where the system refuses to say.
    """
    if not is_there(manifest_path(store_folder, partition, member_digest)):
        return False
    try:
        open_partition(store_folder, partition, member_digest, identity)
    except DamagedCache:
        return False
    return True


def differences(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields in which two identities differ, each with both values, in words."""
    fields = dict.fromkeys((*wanted, *actual))
    return [
        f"{field} is {_shown(actual, field)}, wanted {_shown(wanted, field)}"
        for field in fields
        if _shown(actual, field) != _shown(wanted, field)
    ]


def out_of_place(manifest: Manifest, id_digest: str | None = None) -> Iterator[str]:
    """In words, why a manifest does not belong where it lies: under a file name of its own, in the folder of its own store.

    id_digest: the last part of the store's id, where that is known; it is the digest of the identity.
    """
    if manifest.path.name != f"{manifest.partition}.{manifest.member_digest}.json":
        yield f"describes {manifest.partition} of {manifest.member_digest}: it was renamed or swapped"
    if id_digest is not None and digest(manifest.body["identity"]) != id_digest:
        yield (
            f"is of another store: the folder is for the id {id_digest}, this identity has "
            f"{digest(manifest.body['identity'])}"
        )


def check_own_place(manifest: Manifest, id_digest: str | None = None) -> None:
    """Refuse a manifest that does not belong where it lies; arguments as of `out_of_place`.

    Raises:
        DamagedCache: naming the file, and what it is instead.
    """
    for what in out_of_place(manifest, id_digest):
        raise DamagedCache(f"{manifest.path} {what}.\n{mending(manifest.path)}")


def check_identity(manifest: Manifest, wanted: Mapping[str, Any]) -> None:
    """Refuse a partition that was made for another identity than the one asked for.

    Raises:
        DamagedCache: naming each field that differs, and both values.
    """
    if different := differences(manifest.body["identity"], wanted):
        raise DamagedCache(
            f"{manifest.path} is of another identity: {'; '.join(different)}. It was moved here or renamed.\n"
            f"{mending(manifest.path)}"
        )


def made() -> dict[str, Any]:
    """Time, host and versions: recorded, never identity."""
    names = ("griddle", "numpy", "zarr", "torch", "timm", "scipy", "Pillow")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
    }


def mending(path: Path) -> str:
    """How a damaged partition is computed again, as a sentence for an error."""
    return (
        f"Delete {path} and run the same snakemake command again: it computes this partition anew. "
        f"(`griddle cache verify --repair {path}` checks it whole and removes what is broken.)"
    )


def _is_made(section: Any) -> bool:
    """Whether the section `made` is as it was written."""
    if not isinstance(section, dict):
        return False
    return digest({key: value for key, value in section.items() if key != "digest"}) == section.get("digest")


def _shown(identity: Mapping[str, Any], field: str) -> str:
    return canonical_json(identity[field]) if field in identity else "not there"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

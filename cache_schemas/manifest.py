"""The manifest: the small JSON file, written last, that says a partition is complete and what is in it."""

from __future__ import annotations

import json
import platform
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cache_schemas.canonical import digest
from cache_schemas.errors import DamagedCache

KIND = "griddle partition"
FORMAT = 1
DIGEST_LENGTH = 64


@dataclass(frozen=True)
class Manifest:
    """A partition's manifest, as read from `path`."""

    path: Path
    body: dict[str, Any]

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
    def store(self) -> Path:
        """The Zarr group that this manifest describes."""
        return self.path.parent / f"{self.partition}.{self.content_digest}.zarr"

    @property
    def sidecar(self) -> Path:
        """The file of all inner chunks' checksums."""
        return self.path.parent / f"{self.partition}.{self.content_digest}.crc"

    @property
    def bytes(self) -> int:
        return sum(entry["size"] for entry in self.body["files"].values())


def manifest_path(store_folder: Path, partition: str, member_digest: str) -> Path:
    return store_folder / f"{partition}.{member_digest}.json"


def seal(body: dict[str, Any], made_with: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`body` with its own digest (of all but `made`) and the `made` section: when, where and with what."""
    sealed = {"griddle": KIND, "format": FORMAT, **body}
    return {**sealed, "digest": digest(sealed, DIGEST_LENGTH), "made": {**made(), **(made_with or {})}}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check it against itself.

    Raises:
        DamagedCache: if it is no JSON, no manifest, of another format, or not what its digest says.
    """
    try:
        body = json.loads(path.read_bytes())
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
    return Manifest(path, body)


def open_partition(store_folder: Path, partition: str, member_digest: str) -> Manifest:
    """The manifest of a partition that is valid: its digests, files and sizes agree.

    Raises:
        DamagedCache: naming the first file that is missing or has another size, and the mending command.
    """
    manifest = read_manifest(manifest_path(store_folder, partition, member_digest))
    if (manifest.partition, manifest.member_digest) != (partition, member_digest):
        raise DamagedCache(
            f"{manifest.path} describes {manifest.partition} of {manifest.member_digest}: it was renamed or "
            f"swapped.\n{mending(manifest.path)}"
        )
    wanted = [(manifest.store / name, entry["size"]) for name, entry in manifest.body["files"].items()]
    wanted.append((manifest.sidecar, manifest.body["crc"]["size"]))
    for path, size in wanted:
        try:
            found = path.stat().st_size
        except FileNotFoundError as error:
            raise DamagedCache(f"{path} is missing.\n{mending(manifest.path)}") from error
        if found != size:
            raise DamagedCache(
                f"{path} has {found} bytes, its manifest says {size}.\n{mending(manifest.path)}"
            )
    return manifest


def is_valid(store_folder: Path, partition: str, member_digest: str) -> bool:
    """Whether `open_partition` would succeed; what is damaged is to be computed again."""
    if not manifest_path(store_folder, partition, member_digest).exists():
        return False
    try:
        open_partition(store_folder, partition, member_digest)
    except DamagedCache:
        return False
    return True


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
    return f"Delete {path} and run the same snakemake command again: it computes this partition anew."


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

"""Manifests that say something else, and agree with their own digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache_schemas.manifest import read_manifest, seal
from cache_schemas.publish import write_json


def rewritten(path: Path, **changes: Any) -> None:
    """A manifest that agrees with its own digest, but says something else."""
    body = {
        k: v for k, v in read_manifest(path).body.items() if k not in ("griddle", "format", "digest", "made")
    }
    write_json(path, seal({**body, **changes}))


def without(path: Path, *keys: str) -> None:
    """A manifest without some entries, as one of before they were recorded; it agrees with its own digest."""
    body = {
        k: v
        for k, v in read_manifest(path).body.items()
        if k not in ("griddle", "format", "digest", "made", *keys)
    }
    write_json(path, seal(body))

"""One spelling for every value that is hashed: canonical JSON, and the digests made of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ID_LENGTH = 10
"""Hex digits of an id or digest inside a path: 40 bits, and every manifest repeats the full identity."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats as `repr` writes them; NaN and infinity refused.

    Raises:
        ValueError: for NaN or infinity, which have no JSON spelling.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, length: int = ID_LENGTH) -> str:
    """First `length` hex digits of the SHA-256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """`body` with its own digest, by which a small JSON file is known to be as it was written."""
    return {**body, "digest": digest(body)}


def is_as_sealed(body: dict[str, Any]) -> bool:
    """Whether a body agrees with the digest in it; also one of before, without a digest."""
    content = {key: value for key, value in body.items() if key != "digest"}
    return "digest" not in body or body["digest"] == digest(content)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

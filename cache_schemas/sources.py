"""What a partition was made of: of each file of the dataset that was read for it, a digest of its content, and its time.

A member digest holds names and sizes. A corrected release may change neither; only content tells it from the one before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cache_schemas.access import AnyPath, open_regular
from cache_schemas.manifest import Manifest

LENGTH = 32
"""Hex digits of a content's digest: 128 bits of its SHA-256. A manifest holds one for each file."""


@dataclass(frozen=True)
class Content:
    """What a file held when it was read.

    Attributes:
        digest: the first `LENGTH` hex digits of the SHA-256 of its bytes.
        time: when it was last changed, in ns since 1970, as its file system says. It is a cue to look again, and no more.
        size: in bytes; None where only a manifest is known.
    """

    digest: str
    time: int
    size: int | None = None

    @property
    def stamp(self) -> tuple[int, int | None]:
        """By which a file counts as the one that was looked at."""
        return self.time, self.size


Sources = Sequence[Content | None]
"""Of each file in the order of the partition's scans, or of its images; None for one that could not be opened."""


def stamp_of(path: AnyPath) -> tuple[int, int]:
    """Time in ns and size in bytes of a file, as `Content.stamp`.

    Raises:
        OSError: if it is missing or cannot be reached.
    """
    facts = os.stat(path)
    return facts.st_mtime_ns, facts.st_size


def content_of(path: AnyPath) -> Content:
    """The content of a regular file; its stamp is the one from before its first byte was read.

    Raises:
        OSError: as `open_regular` does.
    """
    with open_regular(path) as file:
        facts = os.fstat(file.fileno())
        value = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(value[:LENGTH], facts.st_mtime_ns, facts.st_size)


def to_manifest(sources: Sources) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of sources goes into a manifest's body, and what into its section `made`: times differ from copy to copy."""
    return (
        {"sources": [content and content.digest for content in sources]},
        {"source_times": [content and content.time for content in sources]},
    )


def sources_of(manifest: Manifest) -> Sources | None:
    """What a partition was made of; None where it was written before this was recorded, or by hand."""
    digests = manifest.body.get("sources")
    times = manifest.body["made"].get("source_times")
    if digests is None or times is None or len(digests) != len(times):
        return None
    return [
        Content(value, time) if value is not None and time is not None else None
        for value, time in zip(digests, times, strict=True)
    ]


def holds_another(manifest: Manifest, row: int, path: AnyPath) -> bool:
    """Whether a file is known to hold something else than what a partition was made of; `row`: which of its sources it is."""
    sources = sources_of(manifest)
    recorded = sources[row] if sources is not None else None
    try:
        return recorded is not None and content_of(path).digest != recorded.digest
    except OSError:
        return False  # who reads it says so

"""What a partition was made of: of each file of the dataset that was read for it, a digest of its content, and its time.

A member digest holds names and sizes. A corrected release may change neither; only content tells it from the one before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache_schemas.access import AnyPath, open_regular
from cache_schemas.canonical import digest
from cache_schemas.manifest import Manifest

LENGTH = 32
"""Hex digits of a content's digest: 128 bits of its SHA-256. A manifest holds one for each file."""


Stamp = tuple[int, int, int]
"""Of a file: when it was last written and last changed in any way, in ns since 1970, and its size in bytes. Nobody can set the
second of them: a file that was replaced, and given the old time, has another."""


@dataclass(frozen=True)
class Content:
    """What a file held when it was read.

    Attributes:
        digest: the first `LENGTH` hex digits of the SHA-256 of its bytes.
        time: when it was last written, in ns since 1970, as its file system says. It is a cue to look again, and no more.
        stamp: `stamp_of` the file that was read; None where only a manifest is known.
    """

    digest: str
    time: int
    stamp: Stamp | None = None


Sources = Sequence[Content | None]
"""Of each file in the order of the partition's scans, or of its images; of labels first their own files, then those of the lidar.
None for one that could not be opened."""


def stamp_of(path: AnyPath) -> Stamp:
    """By which a file counts as the one that was looked at.

    Raises:
        OSError: if it is missing or cannot be reached.
    """
    return _stamp(os.stat(path))


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size


def content_of(path: AnyPath) -> Content:
    """The content of a regular file; its stamp is the one from before its first byte was read.

    Raises:
        OSError: as `open_regular` does.
    """
    with open_regular(path) as file:
        stamp = _stamp(os.fstat(file.fileno()))
        value = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(value[:LENGTH], stamp[0], stamp)


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


def digest_of_sources(manifest: Manifest) -> str | None:
    """One digest of all contents that a partition was made of; None where they were not recorded."""
    sources = sources_of(manifest)
    return None if sources is None else digest([content and content.digest for content in sources])


def holds_another(manifest: Manifest, files: Mapping[int, AnyPath]) -> bool:
    """Whether a file is known to hold something else than what a partition was made of.

    Args:
        files: by their rows in its sources.
    """
    sources = sources_of(manifest)
    if sources is None:
        return False
    for row, path in files.items():
        recorded = sources[row]
        try:
            if recorded is not None and content_of(path).digest != recorded.digest:
                return True
        except OSError:
            continue  # who reads it says so
    return False

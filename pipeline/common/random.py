"""Random draws as pure functions of what they are for: (seed, purpose, epoch, scan, ...), never of what ran before."""

from __future__ import annotations

import hashlib

import numpy as np

from cache_schemas.canonical import digest


def generator(*key: str | int) -> np.random.Generator:
    """A generator that depends on `key` alone: the same on any machine, worker and restart.

    Philox is counter based: independent streams cost nothing and its sequence is fixed by numpy's policy.
    """
    return np.random.Generator(np.random.Philox(key=int(digest(list(key), 32), 16)))


def scan_key(dataset: str, name: str) -> int:
    """A scan as one integer of 64 bits, for draws that are keyed by numbers."""
    return int.from_bytes(hashlib.sha256(f"{dataset}/{name}".encode()).digest()[:8], "little")

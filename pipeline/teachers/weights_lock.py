"""The digest of every teacher's weights, recorded at first use. From then on the same id must mean the same weights."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from cache_schemas.errors import DamagedCache, GriddleError
from cache_schemas.places import WEIGHTS_LOCK as FILE
from cache_schemas.publish import write_json


def check_weights(cache: Path, workdir: Path, teacher_id: str, weights_digest: str) -> None:
    """Record the digest at a teacher's first use, and compare it at every later one.

    The record lies in the cache, or in the workdir where the cache is read-only.

    Raises:
        GriddleError: if these are not the weights that this cache was made with.
        DamagedCache: if the record cannot be read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache if os.access(cache, os.W_OK) else workdir
    with open(folder / f".{FILE}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = {
            **_read(workdir / FILE),
            **_read(cache / FILE),
        }  # what the features were made with goes first
        recorded = known.get(teacher_id)
        if recorded is None:
            write_json(folder / FILE, {**_read(folder / FILE), teacher_id: weights_digest})
        elif recorded != weights_digest:
            raise GriddleError(
                f"the weights of teacher {teacher_id} are not those that its features were made with:\n"
                f"  recorded {recorded}\n  loaded   {weights_digest}\n"
                f"Give the same file again, or another file name for other weights. If the hub changed them, delete "
                f"{folder / 'features' / teacher_id} and its line in {folder / FILE}, and compute the features anew."
            )


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DamagedCache(
            f"{path} is damaged ({error}). Put it back from a copy; or delete it, and the digests are recorded anew, of the "
            f"weights that are used next."
        ) from error

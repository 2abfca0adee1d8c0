"""What a teacher's file of weights is in the teacher's id: its tensors and their names, wherever it lies and however it is called.

Before, it was the file's name. A teacher whose features or runs were made under that id keeps it. Reading a file of torch
imports torch; its digest is kept in the workdir beside the file's size and time, so that each file is read once.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cache_schemas.canonical import is_as_sealed, sealed
from cache_schemas.errors import BadInput
from cache_schemas.places import WEIGHTS_LOCK
from cache_schemas.publish import write_json
from pipeline.common.weights_files import METADATA, digest_of_file, digest_of_tensors, plain_name, read_header
from pipeline.common.weights_names import UnclearNames, is_read_whole
from pipeline.config.model import Teacher

KNOWN = "weights.tensors.json"
"""In a workdir: the digest of each file of weights, as it was read."""


def is_file(teacher: Teacher) -> bool:
    """Whether the weights are a file of the user's, neither the hub's nor untrained."""
    return teacher.weights not in ("hub", "untrained") and not teacher.weights.startswith("hub@")


def named(teacher: Teacher) -> dict[str, Any]:
    """What stood in the id before."""
    return {"file": Path(teacher.weights).name}


def by_tensors(teacher: Teacher, workdir: Path) -> dict[str, Any]:
    """What stands in the id of a teacher that was not used before.

    Raises:
        BadInput: if the file holds no tensors, or is damaged.
    """
    path = Path(teacher.weights)
    stat = path.stat()
    return {"tensors": _digest(path.resolve(), stat.st_size, stat.st_mtime_ns, workdir)}


def was_used(teacher_id: str, cache: Path, workdir: Path) -> bool:
    """Whether something was made under this id: features, the record of their weights, lots of them, or a run."""
    if (cache / "features" / teacher_id).is_dir():
        return True
    records = [cache / WEIGHTS_LOCK, workdir / WEIGHTS_LOCK]
    records += [*workdir.glob("lots/features/*.json"), *workdir.glob("runs/*/provenance.json")]
    wanted = teacher_id.encode()
    for path in records:
        with suppress(OSError):
            if wanted in path.read_bytes():
                return True
    return False


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, modified: int, workdir: Path) -> str:
    known, stamp = _known(workdir), [size, modified]
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        return str(entry["tensors_sha256"])
    digest = _read(path)
    if workdir.is_dir():
        with suppress(OSError):  # a workdir that may only be read: the file is read again each time
            entry = {"stamp": stamp, "tensors_sha256": digest}
            write_json(workdir / KNOWN, sealed({"files": {**known, str(path): entry}}))
    return digest


def _known(workdir: Path) -> dict[str, Any]:
    """Recorded digests; none where the record is gone or damaged, for it can be made again."""
    try:
        known = json.loads((workdir / KNOWN).read_bytes())
        return dict(known["files"]) if is_as_sealed(known) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read(path: Path) -> str:
    if path.suffix == ".safetensors":
        try:
            if is_read_whole([name for name in read_header(path)[0] if name != METADATA]):
                return digest_of_file(path, plain_name)
        except UnclearNames as error:
            raise BadInput(f"{path} cannot be used as weights: {error}.") from error
        except ValueError as error:
            raise BadInput(f"{path} is no whole safetensors file ({error}); download it again.") from error
    from pipeline.common.weights_state import read_state

    return digest_of_tensors(read_state(path))

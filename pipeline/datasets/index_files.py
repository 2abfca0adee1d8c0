"""The files of an index, each of which can be checked by itself: a record by the digest in its name, the others by one in them.

An index of before has no digest in index.json and in the names of scans. It is taken as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cache_schemas.access import read_regular
from cache_schemas.canonical import digest, is_as_sealed
from cache_schemas.errors import BadInput
from cache_schemas.publish import json_bytes, write_json

MENDING = "Run `griddle index --force` with the same config: it reads the dataset again and writes what was changed anew."


def read_summary(path: Path) -> dict[str, Any] | None:
    """A JSON file with its own digest, or one of before, without; None where there is none.

    Raises:
        BadInput: if it is not the one that was written.
    """
    try:
        body = _json(path)
    except FileNotFoundError:
        return None
    if not is_as_sealed(body):
        raise BadInput(f"{path} does not agree with its own digest: it was changed.\n{MENDING}")
    body.pop("digest", None)
    return body


def read_sealed(path: Path) -> dict[str, Any]:
    """The record of a partition, `<partition>.<digest of the record>.json`.

    Raises:
        BadInput: if it is missing, or not the one that was written.
    """
    try:
        record = _json(path)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing.\n{MENDING}") from error
    if path.name != f"{record.get('name')}.{digest(record)}.json":
        raise BadInput(f"{path} is not the record that its name says (digest): it was changed.\n{MENDING}")
    return record


def write_if_other(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file, if these are not its bytes already."""
    try:
        if path.read_bytes() == json_bytes(value):
            return
    except FileNotFoundError:
        pass
    write_json(path, value)


def _json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(read_regular(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no valid JSON ({error}).\n{MENDING}") from error
    if not isinstance(body, dict):
        raise BadInput(f"{path} holds no mapping.\n{MENDING}")
    return body

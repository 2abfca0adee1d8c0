"""The rows of nuScenes' tables, checked before the devkit links them: it trusts every table, and its errors name none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cache_schemas.access import read_regular
from cache_schemas.errors import BadInput
from pipeline.datasets.fence import reading, shown

MOST_BYTES = 2**33
"""Of one table; the largest of v1.0-trainval has about 1.2 GB."""

_COLUMNS: dict[str, dict[str, type]] = {
    "calibrated_sensor": {
        "sensor_token": str,
        "rotation": list,
        "translation": list,
        "camera_intrinsic": list,
    },
    "category": {"name": str},
    "ego_pose": {"rotation": list, "translation": list},
    "instance": {"category_token": str},
    "lidarseg": {"sample_data_token": str, "filename": str},
    "map": {"filename": str, "log_tokens": list},
    "sample": {"next": str},
    "sample_annotation": {"instance_token": str, "sample_token": str},
    "sample_data": {
        "sample_token": str,
        "calibrated_sensor_token": str,
        "ego_pose_token": str,
        "filename": str,
        "is_key_frame": bool,
    },
    "scene": {"name": str, "first_sample_token": str},
    "sensor": {"channel": str, "modality": str},
}
"""What the devkit and the reader use of each table, beside the `token` that every row has."""


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, each with the columns that are used of it.

    Raises:
        BadInput: naming the table and the row, for a file that is missing, no regular file, no JSON, no list of rows, or a
            row without a column, or with a value of another kind in it.
    """
    with reading(f"table {path} cannot be read; extract its archive again"):
        content = read_regular(path, MOST_BYTES)
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"table {path} is no valid JSON ({shown(error)}); extract its archive again"
        ) from error
    if not isinstance(rows, list):
        raise BadInput(
            f"table {path} is no list of rows but {type(rows).__name__}; extract its archive again"
        )
    columns = {"token": str, **_COLUMNS.get(path.stem, {})}
    tokens = set()
    for number, row in enumerate(rows):
        if type(row) is not dict:
            raise BadInput(
                f"table {path}, row {number}: it is no row but {type(row).__name__}; extract its archive again"
            )
        for column, kind in columns.items():
            if type(row.get(column)) is not kind:
                raise BadInput(_wrong_value(path, number, row, column, kind))
        tokens.add(row["token"])
    if len(tokens) != len(rows):
        raise BadInput(
            f"table {path}: {len(rows) - len(tokens)} token(s) are there twice; extract its archive again"
        )
    return rows


def row_of(
    root: Path, version: str, table: str, row: Mapping[str, Any] | str
) -> AbstractContextManager[None]:
    """A context for code that uses a row, given whole or by its token: any error names the table and the row."""
    token = row if isinstance(row, str) else row.get("token")
    return reading(f"table {root / version / table}.json, row {token}")


def _wrong_value(path: Path, number: int, row: dict[str, Any], column: str, kind: type) -> str:
    token = row.get("token")
    named = f" ({token})" if isinstance(token, str) else ""
    held = f"is {row[column]!r:.60}" if column in row else "is not there"
    return f"table {path}, row {number}{named}: `{column}` {held}, not {kind.__name__}; extract its archive again"

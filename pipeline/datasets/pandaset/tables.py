"""The columns that a table of PandaSet must have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cache_schemas.errors import BadInput
from pipeline.datasets.pandaset.pickles import read_table

_KINDS = {"f": "floating-point", "iu": "integer"}


def read_columns(path: Path, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of a table, each (rows,).

    Args:
        wanted: names and, for each, the numpy kinds that its dtype may have.

    Raises:
        BadInput: as `read_table`, or if the columns are others.
    """
    found = read_table(path)
    if set(found) != set(wanted) or any(
        found[name].dtype.kind not in kinds for name, kinds in wanted.items()
    ):
        there = ", ".join(f"{name} {column.dtype}" for name, column in found.items()) or "none"
        needed = ", ".join(f"{name} ({_KINDS[kinds]})" for name, kinds in wanted.items())
        raise BadInput(f"{path} has the columns {there}; it should have {needed}")
    return found

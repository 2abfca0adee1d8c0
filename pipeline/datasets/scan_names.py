"""The names of a dataset's scans, in one small file beside its index. A plan checks lists of scans against them.

The records of partitions hold the names, too. Reading those takes 8 ms a scene of nuScenes, six seconds for its train split,
in each job; this file takes a hundredth of that. Its name holds a digest of the records it was made from. No torch, no zarr.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from cache_schemas.canonical import digest, sealed
from cache_schemas.errors import BadInput
from pipeline.datasets.index_files import MENDING, read_sealed, read_summary, write_if_other

KIND = "griddle scan names"
Names = dict[str, list[str]]
"""For each partition its scans' names, in order."""


def names_path(folder: Path, files: Sequence[str]) -> Path:
    """Where the names of an index lie; files: of its partitions' records, whose names hold digests."""
    return folder / f"scan-names.{digest(list(files))}.json"


def write_scan_names(folder: Path, files: Sequence[str], names: Names) -> None:
    write_if_other(names_path(folder, files), sealed({"griddle": KIND, "partitions": names}))


def read_scan_names(folder: Path, files: Sequence[str]) -> Names:
    """For each partition its scans' names. An index of before this file has them in its records alone.

    Raises:
        BadInput: if neither can be read.
    """
    return _read(folder, tuple(files))


@lru_cache(maxsize=8)
def _read(folder: Path, files: tuple[str, ...]) -> Names:
    path = names_path(folder, files)
    try:
        body = read_summary(path)
        if body is not None:
            names: Names = body["partitions"]
            return names
        names = {}
        for file in files:
            path = folder / file
            record = read_sealed(path)
            names[record["name"]] = [scan["name"] for scan in record["scans"]]
        return names
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} does not hold names of scans ({error}).\n{MENDING}") from error

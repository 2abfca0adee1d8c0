"""Sizes of files: a file that is read must have the size that was indexed, which is part of its partition's identity."""

from __future__ import annotations

from pathlib import Path

from cache_schemas.errors import BadInput


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        BadInput: if it is missing.
    """
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; put it back, or leave its partition out.") from error


def check_size(path: Path, indexed: int) -> None:
    """Refuse a file of another size than was indexed: a partition's member digest holds the sizes of its files.

    Raises:
        BadInput: if the file is missing or has another size than the index says.
    """
    size = size_of(path)
    if size != indexed:
        raise BadInput(
            f"{path} has {size} bytes, the index says {indexed}: it was overwritten or cut. Put the right file "
            f"back, or run `griddle index --force` if the new one is right."
        )

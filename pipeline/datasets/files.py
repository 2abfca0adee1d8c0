"""Sizes of files, which tie bytes to identity: a file that is read must have the size that was indexed."""

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
    """A partition's member digest holds its files' sizes; other bytes must not be published under it.

    Raises:
        BadInput: if the file is missing or has another size than the index says.
    """
    found = size_of(path)
    if found != indexed:
        raise BadInput(
            f"{path} has {found} bytes, the index says {indexed}: it was overwritten or cut. Put the right file "
            f"back, or run `griddle index --force` if the new one is right."
        )

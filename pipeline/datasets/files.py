"""Files of a dataset: regular ones, of the size that was indexed, which is part of their partition's identity."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cache_schemas.access import read_regular
from cache_schemas.errors import BadInput
from pipeline.datasets.listing import is_reachable

MOST_BYTES = 2**32
"""Of one lidar, label or image file; the largest real ones have some 10 MB. More would be read into memory at once."""
MOST_PIXELS = 2**27
"""Of one image; 16 times those of a frame of 4K. A few bytes of a file may claim any number of them."""


def size_of(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        BadInput: if it is missing, cannot be reached (`listing.is_reachable`), is a named pipe or a device, or too large to
            be a file of one scan.
    """
    if not is_reachable(path):
        raise BadInput(f"{path} is missing; put it back, or leave its partition out.")
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise BadInput(f"{path} is no regular file; put it back, or leave its partition out.")
    if facts.st_size > MOST_BYTES:
        raise BadInput(f"{path} has {facts.st_size:,} bytes; a file of one scan has at most {MOST_BYTES:,}.")
    return facts.st_size


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


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse an image of more pixels than any camera's, before memory is asked for them.

    Raises:
        BadInput: naming the file.
    """
    if height * width > MOST_PIXELS:
        raise BadInput(
            f"{path} says that it has {height} x {width} pixels; at most {MOST_PIXELS:,} are read."
        )


def read_file(path: Path) -> bytes:
    """The bytes of a regular file, `MOST_BYTES` at most.

    Raises:
        BadInput: as `size_of`, or if it cannot be read.
    """
    size_of(path)
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}).") from error

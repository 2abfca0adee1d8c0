"""A fence around what a reader does: files of a dataset may hold anything, and a reader may be a user's own and wrong."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cache_schemas.disk import FULL
from cache_schemas.errors import BadInput, GriddleError

Item = TypeVar("Item")

SHOWN = 300
"""Characters of a foreign error's message; some repeat what they were given."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """A context for reading what is not ours. Errors that are in our words already pass; any other gets them.

    Args:
        what: is read, to begin the message with: a table and its row, a file, a reader's method.

    Raises:
        BadInput: for any exception, with its type, its message and the line that raised it; for `sys.exit`, too.
        GriddleError: if the memory does not suffice.
    """
    try:
        yield
    except GriddleError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise  # of our own writing: a disk that is full is no reader's mistake
        raise BadInput(f"{what}: {shown(error)}{_place(error)}") from error
    except MemoryError as error:
        raise GriddleError(f"{what}: it does not fit into the memory ({error or 'MemoryError'})") from error
    except SystemExit as end:
        raise BadInput(f"{what}: it ended the program (sys.exit({end.code!r})){_place(end)}") from end
    except Exception as error:
        raise BadInput(f"{what}: {shown(error)}{_place(error)}") from error


def fenced(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items, each made within `reading`.

    Raises:
        BadInput: as `reading`.
    """
    with reading(what):
        iterator = iter(items)
    end = object()
    while True:
        with reading(what):
            item = next(iterator, end)
        if item is end:
            return
        yield item  # type: ignore[misc]


def shown(error: BaseException) -> str:
    """An error's type and the beginning of its message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:SHOWN]}{' ...' if len(text) > SHOWN else ''}"


def _place(error: BaseException) -> str:
    """The file and line that raised it: who writes a reader looks there."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""

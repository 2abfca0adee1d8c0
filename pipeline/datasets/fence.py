"""A fence around what a reader does: files of a dataset may hold anything, and a reader may be a user's own and wrong."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cache_schemas.disk import FULL
from cache_schemas.errors import BadInput, GriddleError

Item = TypeVar("Item")

SHOWN = 300
"""Characters of a foreign error's message; some repeat what they were given."""


OWN_MISTAKES = (NameError, ImportError, NotImplementedError, SyntaxError)
"""What no file makes a reader raise: its code is wrong."""
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_PACKAGES = tuple(
    f"{Path(__file__).resolve().parents[2] / name}/"
    for name in ("pipeline", "cache_schemas", "stages", "griddle")
)


class ReaderMistake(BadInput):
    """A reader is wrong, and no file is at fault: `on_error: skip` does not go on without the file."""


class Stumbled(BadInput):
    """The code of a reader raised what is not in our words: a file is at fault, or the reader.

    Attributes:
        line: of the user's code, as in `my/poss.py, line 55`; empty where none was in it.
    """

    line = ""


def like(error: GriddleError, text: str) -> BadInput:
    """An error of other words that keeps what is known of the reader's code."""
    if not isinstance(error, Stumbled):
        return BadInput(text)
    stumbled = Stumbled(text)
    stumbled.line = error.line
    return stumbled


@contextmanager
def reading(what: str, *, names: Sequence[str] = ()) -> Iterator[None]:
    """A context for reading what is not ours. Errors that are in our words already pass; any other gets them.

    Args:
        what: is read, to begin the message with: a table and its row, a file, a reader's method.
        names: of what is read. An error in our words that a user's code raises, and that has none of these in it, gets `what`
            before it.

    Raises:
        ReaderMistake: for what no file makes a reader raise, and for `sys.exit`.
        Stumbled: for any other exception, with its type, its message and the line of the user's code that it came from.
        GriddleError: if the memory does not suffice.
    """
    try:
        yield
    except GriddleError as error:
        if names and type(error) in (BadInput, Stumbled) and not any(name in str(error) for name in names):
            raise like(error, f"{what}: {error}{_place(error)}") from error
        raise
    except OSError as error:
        if error.errno in FULL:
            raise  # of our own writing: a disk that is full is no reader's mistake
        raise BadInput(f"{what}: {shown(error)}{_place(error)}") from error
    except MemoryError as error:
        raise GriddleError(f"{what}: it does not fit into the memory ({error or 'MemoryError'})") from error
    except SystemExit as end:
        raise ReaderMistake(f"{what}: it ended the program (sys.exit({end.code!r})){_place(end)}") from end
    except OWN_MISTAKES as error:
        raise ReaderMistake(f"{what}: {shown(error)}{_place(error)}") from error
    except Exception as error:
        stumbled = Stumbled(f"{what}: {shown(error)}{_place(error)}")
        stumbled.line = _own_line(error) or ""
        raise stumbled from error


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
    kind = type(error).__name__
    try:
        # That of a SyntaxError repeats the place, which is given once, as for every other.
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except Exception:  # of a class of the user's own
        text = "its message cannot be made"
    return f"{kind}: {text[:SHOWN]}{' ...' if len(text) > SHOWN else ''}" if text else kind


def name_of_class(reader: type) -> str:
    """A user's own reader as a config names it, `my/poss.py:Reader`; one of ours by its class alone."""
    file = getattr(sys.modules.get(reader.__module__), "__file__", None)
    return f"{_path_as_written(file)}:{reader.__name__}" if file and _is_users(file) else reader.__name__


def _place(error: BaseException) -> str:
    """The file and line that raised it, the last of the user's code if there is any: who writes a reader looks there."""
    own = _own_line(error)
    if own is not None:
        return f" ({own})"
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _own_line(error: BaseException) -> str | None:
    """The last line of the user's code that an error came from: `my/poss.py, line 6`."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    own = [(file, line) for file, line in places if _is_users(file)]
    return f"{_path_as_written(own[-1][0])}, line {own[-1][1]}" if own else None


def _path_as_written(file: str) -> str:
    """From where the command runs, if the file lies below."""
    path, here = os.path.abspath(file), os.path.abspath(os.curdir)
    return os.path.relpath(path, here) if path.startswith(here.rstrip("/") + "/") else path


def _is_users(file: str) -> bool:
    """Whether a file of code is neither Python's, nor a library's, nor ours."""
    return os.path.isfile(file) and not os.path.abspath(file).startswith(_LIBRARIES + _PACKAGES)

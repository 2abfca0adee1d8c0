"""PandaSet's tables are pickled DataFrames. They are read without pandas, and without running what a pickle names.

A pickle is a program: it names functions and classes, and loading calls them. Here each name that a pickled DataFrame
of numbers needs stands for an inert class of this file, which only keeps what it is given; any other name is refused
when it is met. Even numpy's own arrays and dtypes would be too much: a pickle can make them take raw bytes for the
addresses of objects. So files also read alike under every pandas, whichever wrote them.
"""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.access import read_regular
from cache_schemas.errors import BadInput

_GZIP = b"\x1f\x8b"
"""What a gzip file begins with, and no pickle."""


MOST_BYTES = 2**29
"""Of a table, decompressed; real ones have 8 MB. A gzip file of 1 MB may hold a thousand times more than its size."""


class _Refused(Exception):
    """A pickle names what no table needs."""


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a pickled DataFrame, in its order, each (rows,) of its own dtype.

    Args:
        path: `.pkl`, gzipped or not, or `.pkl.gz`.

    Raises:
        BadInput: for a file that is missing, cut, no pickle, no DataFrame, or that names anything else than what a
            DataFrame of numbers needs; nothing of it is run.
    """
    try:
        content = read_regular(path, MOST_BYTES)
        if path.suffix == ".gz" or content.startswith(_GZIP):
            content = _decompressed(path, content)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; put it back, or leave its partition out.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} is cut or no gzip file ({error}); download it again.") from error
    try:
        _check_opcodes(content)
        table = _Tables(io.BytesIO(content)).load()
        if isinstance(table, _Frame):
            return table.columns()
    except _Refused as error:
        raise BadInput(
            f"{path} names {error}, which no table of PandaSet needs and which could run commands. Nothing of it was "
            f"run. Take the file from another source, and do not open it with pandas."
        ) from error
    except Exception as error:  # a cut or foreign pickle raises nearly anything
        raise BadInput(
            f"{path} is no pickled DataFrame of numbers ({type(error).__name__}: {error}); download it again."
        ) from error
    raise BadInput(f"{path} holds no DataFrame but {type(table).__name__}; download it again.")


def _decompressed(path: Path, content: bytes) -> bytes:
    """The bytes of a gzip file, `MOST_BYTES` at most; more are never held."""
    whole = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        while block := file.read(2**22):
            whole += block
            if len(whole) > MOST_BYTES:
                raise BadInput(f"{path} holds more than {MOST_BYTES:,} bytes, compressed; download it again.")
    return bytes(whole)


_KINDS = {"f": "floating-point", "iu": "integer"}


def read_columns(path: Path, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of a table, each (rows,).

    Args:
        wanted: by name, the numpy kinds that a column's dtype may have.

    Raises:
        BadInput: as `read_table`, or if the columns are others.
    """
    columns = read_table(path)
    if set(columns) != set(wanted) or any(
        columns[name].dtype.kind not in kinds for name, kinds in wanted.items()
    ):
        actual = ", ".join(f"{name} {column.dtype}" for name, column in columns.items()) or "none"
        needed = ", ".join(f"{name} ({_KINDS[kinds]})" for name, kinds in wanted.items())
        raise BadInput(f"{path} has the columns {actual}; it should have {needed}")
    return columns


_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "GLOBAL", "STACK_GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "MARK", "EMPTY_TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM",
    "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES",
    "SHORT_BINBYTES", "BYTEARRAY8",
))  # fmt: skip
_MOST_KEPT = 100_000
"""Entries of a pickle's memo; a table has a hundred."""


def _check_opcodes(content: bytes) -> None:
    """Nothing but what protocols 3 to 5 write for a table, with all its bytes there.

    pickle itself believes lengths and numbers that it reads: one wrong byte can make it ask for all memory there is.

    Raises:
        ValueError: for anything else.
    """
    for opcode, argument, place in pickletools.genops(content):
        too_many = opcode.name == "LONG_BINPUT" and (argument or 0) > _MOST_KEPT
        if opcode.name not in _OPCODES or too_many:
            raise ValueError(f"{opcode.name} {argument!r:.40} at byte {place}")


class _Frame:
    """DataFrame."""

    manager: _Manager

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.manager = state["_mgr"] if "_mgr" in state else state["_data"]  # pandas < 1.1: _data

    def columns(self) -> dict[str, np.ndarray]:
        names, columns = list(_values(self.manager.axes[0])), {}
        for values, places in self.manager.blocks:
            rows = np.atleast_2d(_values(values))
            numbers = range(*places.indices(len(names))) if isinstance(places, slice) else _values(places)
            for row, number in zip(rows, numbers, strict=True):
                columns[names[number]] = row
        if len(columns) != len(names) or len({column.shape for column in columns.values()}) > 1:
            raise ValueError(f"columns {names} with {[column.shape for column in columns.values()]} values")
        return {name: columns[name] for name in names}


class _Manager:
    """BlockManager: blocks of columns of one dtype, (columns, rows) each, and their places among all columns."""

    def __init__(self, blocks: Any = (), axes: Any = ()) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        """Of pandas < 1.3; its first three items are for pandas < 0.14."""
        kept = state[3]["0.14.1"]
        self.axes = kept["axes"]
        self.blocks = [(block["values"], block["mgr_locs"]) for block in kept["blocks"]]


class _Block(tuple):
    """Of pandas >= 1.3: values and places, without the number of dimensions."""

    def __new__(cls, values: Any, places: Any, ndim: int = 2) -> _Block:
        return super().__new__(cls, (values, places))

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a block has no state")


class _Partial:
    """Of pandas 1.3: `functools.partial` around `new_block`, with the number of dimensions as its state."""

    def __init__(self, *given: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __call__(self, values: Any, places: Any) -> _Block:
        return _Block(values, places)


class _Index:
    """An Index of column names; of rows, a RangeIndex or numbers, whose values are not used."""

    def __init__(self, kind: Any = None, given: dict[str, Any] | None = None) -> None:
        self.values = (given or {}).get("data", ())

    def __setstate__(self, state: Any) -> None:
        raise ValueError("an index has no state")


class _Strings:
    """The column names of pandas >= 3: a StringArray around an array of objects."""

    values: Any

    def __init__(self, *given: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.values = next(part for part in state if isinstance(part, _Array))


class _Dtype:
    """A dtype by its code and byte order; of numbers, or of Python's objects, which column names are.

    numpy's own takes flags from a pickle, with which raw bytes pass for the addresses of objects.
    """

    def __init__(self, code: str, align: Any = False, copy: Any = False) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def made(self) -> np.dtype[Any] | None:
        """None for objects."""
        if self.code in ("O", "O8"):
            return None
        if not re.fullmatch("[biuf][1248]", self.code) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"dtype {self.order}{self.code} is none of a number")
        return np.dtype(self.order + self.code)


class _Array:
    """An array that protocols below 5 fill by its state."""

    values: np.ndarray

    def __init__(self, *given: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, content = state
        self.values = _filled(content, dtype, shape).reshape(shape, order="F" if columns_first else "C")


class _Buffer(_Array):
    """An array around its bytes, as protocol 5 writes it; from numpy 2.3 on with the order of its axes."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> None:
        values = _filled(content, dtype, shape)
        self.values = (
            values.reshape(shape).transpose(axes)
            if order == "K" and axes is not None
            else values.reshape(shape, order="F" if order == "F" else "C")
        )


def _filled(content: Any, dtype: Any, shape: Any) -> np.ndarray:
    """The values, flat; reshaping them fails where there are others than the shape says."""
    if not isinstance(dtype, _Dtype):
        raise ValueError(f"a dtype that is none: {dtype!r}")
    made = dtype.made()
    if made is not None:
        return np.frombuffer(content, made)
    if not isinstance(content, list):
        raise ValueError("objects that are no list")
    objects = np.empty(len(content), object)
    for place, value in enumerate(content):
        objects[place] = value
    return objects


def _values(held: Any) -> Any:
    """What is held by an index, strings, or an array, however deep."""
    while isinstance(held, _Index | _Strings | _Array):
        held = held.values
    return held


_STANDS_FOR: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    # numpy < 2 and from 2 on
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("numpy._core.numeric", "_frombuffer"): _Buffer,
    # pandas < 3 and from 3 on
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas.core.internals.blocks", "new_block"): _Block,  # 1.3 alone, with the next
    ("functools", "partial"): _Partial,
    ("pandas._libs.internals", "_unpickle_block"): _Block,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas", "Index"): _Index,
    ("pandas.core.indexes.numeric", "Int64Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Index,
    ("pandas", "RangeIndex"): _Index,
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _Strings,
    ("pandas.arrays", "StringArray"): _Strings,
    ("pandas", "StringDtype"): _Strings,
}
"""PandaSet's files (pandas 1.0, protocol 3) need slice, dtype, ndarray, `_reconstruct`, DataFrame, BlockManager,
`_new_Index`, Index and RangeIndex; the others are what pandas 1.3 to 3 write for the same tables."""


class _Tables(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STANDS_FOR[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

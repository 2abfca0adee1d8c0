"""PandaSet's tables are pickled DataFrames. They are read without pandas, and without running what a pickle names.

A pickle is a program: it names functions and classes, and loading calls them. Here each name that a pickled DataFrame
of numbers needs stands for an inert class of this file, which only keeps what it is given; numpy's arrays and dtypes
alone are themselves. Any other name is refused when it is met. So files read alike under every pandas, whichever
wrote them.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cache_schemas.errors import BadInput

_GZIP = b"\x1f\x8b"
"""What a gzip file begins with, and no pickle."""


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
        content = path.read_bytes()
        if path.suffix == ".gz" or content.startswith(_GZIP):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing; put it back, or leave its partition out.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} is cut or no gzip file ({error}); download it again.") from error
    try:
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


class _Frame:
    """DataFrame."""

    manager: _Manager

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.manager = state["_mgr"] if "_mgr" in state else state["_data"]  # pandas < 1.1: _data

    def columns(self) -> dict[str, np.ndarray]:
        names, found = list(self.manager.axes[0]), {}
        for values, places in self.manager.blocks:
            rows = [values.values] if isinstance(values, _Strings) else values
            numbers = range(*places.indices(len(names))) if isinstance(places, slice) else places
            for row, number in zip(rows, numbers, strict=True):
                found[names[number]] = row
        if len(found) != len(names) or len({column.shape for column in found.values()}) > 1:
            raise ValueError(f"columns {names} with {[column.shape for column in found.values()]} values")
        return {name: found[name] for name in names}


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


class _Index(list):
    """An Index of column names; of rows, a RangeIndex or numbers, whose values nobody asks for."""

    def __init__(self, kind: Any = None, given: dict[str, Any] | None = None) -> None:
        data = (given or {}).get("data", ())
        super().__init__(data.values if isinstance(data, _Strings) else data)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("an index has no state")


class _Strings:
    """The column names of pandas >= 3: a StringArray around an array of objects."""

    values: np.ndarray

    def __init__(self, *given: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.values = next(part for part in state if isinstance(part, np.ndarray))


class _Array:
    """An array to be filled by its state, as protocols below 5 write it."""

    def __new__(cls, *given: Any) -> Any:
        return np.empty(0, np.int8)

    def __setstate__(self, state: Any) -> None: ...


class _Buffer:
    """An array around its bytes, as protocol 5 writes it."""

    def __new__(cls, buffer: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> Any:
        array = np.frombuffer(buffer, dtype)
        if order == "K" and axes is not None:
            return array.reshape(shape).transpose(axes)
        return array.reshape(shape, order=order)  # type: ignore[call-overload]

    def __setstate__(self, state: Any) -> None: ...


_STANDS_FOR: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("numpy", "dtype"): np.dtype,
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

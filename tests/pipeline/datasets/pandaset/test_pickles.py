"""Tables are read as pandas reads them, whichever pandas wrote them; what else a pickle may hold is refused unrun."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache_schemas.errors import BadInput
from pipeline.datasets.pandaset.pickles import read_columns, read_table

TABLES = sorted((Path(__file__).parent / "tables").glob("*.pkl.gz"))
WANTED = {"x": "f", "d": "iu"}


def save(path: Path, value: object, protocol: int = 4) -> Path:
    data = pickle.dumps(value, protocol)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name.removesuffix(".pkl.gz"))
def test_tables_of_any_pandas(path: Path) -> None:
    """Rows 0 and 2 of a table of four, written by that version of pandas."""
    found = read_table(path)
    n = np.array([0, 2])
    wanted = {"x": n + 0.5, "y": n * 2.0, "z": n * 3.0, "i": n * 4.0, "t": n + 1e9, "d": n % 2}
    assert list(found) == list(wanted)
    for name, column in wanted.items():
        np.testing.assert_array_equal(found[name], column)
        assert found[name].dtype == column.dtype


def test_there_are_tables_of_several_versions() -> None:
    assert {path.name.split("-")[1].rpartition(".")[0] for path in TABLES} >= {"1.0", "1.3", "2.3", "3.0"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tables_of_the_installed_pandas(tmp_path: Path, protocol: int) -> None:
    table = pd.DataFrame({"x": [1.5, 2.5, 3.5], "d": [0, 1, 1], "y": [4.0, 5.0, 6.0]})
    for name, part in (("whole", table), ("rows", table[table.d == 1]), ("turned", table[["y", "d", "x"]])):
        path = tmp_path / f"{name}.pkl"
        part.to_pickle(path, protocol=protocol)
        found = read_table(path)
        assert list(found) == list(part)
        for column in part:
            np.testing.assert_array_equal(found[column], part[column].to_numpy())


def test_a_gzipped_table_by_another_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.5, 2.5]})
    path = save(tmp_path / "00.pkl.gz", table).rename(tmp_path / "00.pkl")
    np.testing.assert_array_equal(read_table(path)["x"], table.x)


def test_real_tables_are_as_pandas_reads_them(samples: Path) -> None:
    for path in (
        samples / "pandaset/002/lidar/79.pkl.gz",
        samples / "pandaset/002/annotations/semseg/79.pkl.gz",
    ):
        found, by_pandas = read_table(path), pd.read_pickle(path)
        assert list(found) == list(by_pandas)
        for name in found:
            np.testing.assert_array_equal(found[name], by_pandas[name].to_numpy())


def test_reading_needs_no_pandas(tmp_path: Path) -> None:
    path = save(tmp_path / "t.pkl.gz", pd.DataFrame({"x": [1.0]}))
    code = (
        f"import sys; from pathlib import Path; from pipeline.datasets.pandaset.pickles import read_table; \
read_table(Path({str(path)!r})); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Runs:
    """When unpickled, calls what it is given."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> object:
        return self.call


def hostile(kind: str, marker: Path) -> tuple[object, str]:
    """A value whose unpickling makes `marker`, and the name that it needs for that."""
    runs = Runs(os.system, f"touch {marker}")
    match kind:
        case "a command":
            return runs, f"{os.system.__module__}.system"
        case "an expression":
            return Runs(eval, f"open({str(marker)!r}, 'w')"), "builtins.eval"
        case "a command in a cell":
            return pd.DataFrame({"x": [1.0], "d": np.array([runs], object)}), f"{os.system.__module__}.system"
        case "a command in the attributes":
            table = pd.DataFrame({"x": [1.0], "d": [1]})
            table.attrs["note"] = [runs]
            return table, f"{os.system.__module__}.system"
        case "a class":
            return Runs(io.FileIO, str(marker), "w"), "_io.FileIO"
    raise ValueError(kind)


KINDS = (
    "a command",
    "an expression",
    "a command in a cell",
    "a command in the attributes",
    "a class",
)


@pytest.mark.parametrize("protocol", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_pickle_is_refused_by_name_before_it_runs(tmp_path: Path, kind: str, protocol: int) -> None:
    marker = tmp_path / "it-ran"
    value, name = hostile(kind, marker)
    path = save(tmp_path / "00.pkl.gz", value, protocol)
    with pytest.raises(BadInput) as refused:
        read_columns(path, WANTED)
    assert str(path) in str(refused.value)
    assert f"names {name}, which no table of PandaSet needs" in str(refused.value)
    assert "Nothing of it was run" in str(refused.value)
    assert not marker.exists()
    pickle.loads(
        gzip.decompress(path.read_bytes())
    )  # ours, and harmless: it shows that the file would have run
    assert marker.exists()


@pytest.mark.parametrize(
    "name", [("pandas", "DataFrame.eval"), ("pandas", "eval"), ("numpy", "load"), ("builtins", "getattr")]
)
def test_a_name_is_the_whole_name(tmp_path: Path, name: tuple[str, str]) -> None:
    """Protocol 4 names attributes with dots."""
    module, attribute = (f"\x8c{chr(len(part))}{part}".encode("latin-1") for part in name)
    path = tmp_path / "00.pkl"
    path.write_bytes(b"\x80\x04" + module + attribute + b"\x93.")
    with pytest.raises(BadInput, match=f"names {'.'.join(name)}, which no table"):
        read_table(path)


def test_what_pandas_names_stay_inert(tmp_path: Path) -> None:
    """A pickle that only uses allowed names cannot reach into classes: state on a class is refused."""
    for module, name in (("pandas.core.frame", "DataFrame"), ("pandas.core.indexes.base", "Index")):
        path = tmp_path / "00.pkl"
        path.write_bytes(f"c{module}\n{name}\n".encode() + b"}X\x06\x00\x00\x00marked\x88sb.")
        with pytest.raises(BadInput, match="no pickled DataFrame of numbers"):
            read_table(path)


def broken(kind: str, path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(500.0), "d": 1})
    whole = gzip.compress(pickle.dumps(table, 4))
    content = {
        "a cut gzip": whole[: len(whole) // 2],
        "no gzip": pickle.dumps(table, 4),
        "an empty file": b"",
        "a flipped byte": whole[:40] + bytes([whole[40] ^ 255]) + whole[41:],
        "a cut pickle": gzip.compress(pickle.dumps(table, 4)[:400]),
        "no pickle": gzip.compress(b"x,d\n1,2\n"),
        "another value": gzip.compress(pickle.dumps([1, 2], 4)),
        "a persistent name": gzip.compress(b"\x80\x04K\x01Q."),
    }[kind]
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("a cut gzip", "is cut or no gzip file"),
        ("no gzip", "is cut or no gzip file"),
        ("an empty file", "no pickled DataFrame|is cut or no gzip file"),
        ("a flipped byte", "is cut or no gzip file"),
        ("a cut pickle", "no pickled DataFrame"),
        ("no pickle", "no pickled DataFrame"),
        ("another value", "holds no DataFrame but list"),
        ("a persistent name", "no pickled DataFrame"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / "00.pkl.gz"
    broken(kind, path)
    with pytest.raises(BadInput, match=told) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"00\.pkl is missing"):
        read_table(tmp_path / "00.pkl")


@pytest.mark.parametrize(
    ("columns", "there"),
    [
        ({"x": [1.0]}, "x float64; it should have x (floating-point), d (integer)"),
        ({"x": [1.0], "d": [1], "more": [2]}, "x float64, d int64, more int64; it should"),
        ({"x": [1.0], "d": [1.0]}, "x float64, d float64; it should"),
        ({"x": np.array(["1.0"], object), "d": [1]}, "x object, d int64; it should"),
    ],
)
def test_other_columns_are_told_beside_those_wanted(
    tmp_path: Path, columns: dict[str, list[float]], there: str
) -> None:
    path = save(tmp_path / "00.pkl", pd.DataFrame(columns))
    with pytest.raises(BadInput) as error:
        read_columns(path, WANTED)
    assert f"{path} has the columns {there}" in str(error.value)


def test_columns_of_extension_dtypes_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "00.pkl"
    pd.DataFrame({"x": [1.0], "d": pd.array([1], dtype="Int64")}).to_pickle(path)
    with pytest.raises(BadInput, match="which no table of PandaSet needs"):
        read_columns(path, WANTED)


def array_with(state: tuple[object, ...], dtype: str, dtype_state: tuple[object, ...] | None) -> bytes:
    """A pickle of an array with any state that one likes."""

    class Dtype:
        def __reduce__(self) -> object:
            made = (np.dtype, (dtype, False, True))
            return made if dtype_state is None else (*made, dtype_state)

    class Array:
        def __reduce__(self) -> object:
            version, shape, order, content = state
            return (
                np.empty(0).__reduce__()[0],
                (np.ndarray, (0,), b"b"),
                (version, shape, Dtype(), order, content),
            )

    return pickle.dumps(Array(), 3)


OBJECTS_WITHOUT_THEIR_FLAG = (3, "|", None, None, None, -1, -1, 0)


def test_raw_bytes_are_never_taken_for_objects(tmp_path: Path) -> None:
    """With numpy's own classes, which an allow-list of names lets through, they are: addresses of one's choice."""
    data = array_with((1, (1,), False, b"\0" * 8), "O8", OBJECTS_WITHOUT_THEIR_FLAG)
    taken = pickle.loads(data)  # the address is 0, which numpy shows as None
    assert (taken.dtype, taken.shape) == (np.dtype(object), (1,))
    path = tmp_path / "00.pkl"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="objects that are no list"):
        read_table(path)


@pytest.mark.parametrize(
    ("state", "dtype", "told"),
    [
        ((1, (10**12,), False, b"1" * 8), "i8", "cannot reshape"),
        ((1, (2,), False, b"1" * 8), "i8", "cannot reshape"),
        ((1, (1,), False, b"1" * 8), "M8", "none of a number"),
        ((1, (1,), False, b"1" * 8), "i8,O8", "none of a number"),
        ((1, (1,), False, [1]), "i8", "bytes-like object is required"),
    ],
)
def test_an_array_holds_just_its_bytes(
    tmp_path: Path, state: tuple[object, ...], dtype: str, told: str
) -> None:
    path = tmp_path / "00.pkl"
    path.write_bytes(array_with(state, dtype, None))
    with pytest.raises(BadInput, match=told):
        read_table(path)


def test_a_flipped_byte_is_read_or_refused_and_asks_for_no_memory(tmp_path: Path) -> None:
    """In a table that is not gzipped nothing tells; lengths and numbers of the pickle may then be anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    random = np.random.default_rng(0)
    path, refused = tmp_path / "00.pkl", []
    wanted = {"x": "f", "y": "f", "z": "f", "i": "f", "t": "f", "d": "iu"}
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**28, hard))
    try:
        for table in TABLES:
            whole = gzip.decompress(table.read_bytes())
            for _ in range(100):
                content = bytearray(whole)
                content[random.integers(len(whole))] = random.integers(256)
                path.write_bytes(content)
                try:
                    read_columns(path, wanted)
                except BadInput as error:
                    refused.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert 100 < len(refused) < 100 * len(TABLES)
    assert not [told for told in refused if "MemoryError" in told]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x04]r\xff\xff\xff\x7f.", "LONG_BINPUT 2147483647 at byte 3"),
        (b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.", "ValueError: expected 1099511627776 bytes"),
        (b"\x80\x02\x82\x01.", "EXT1 1 at byte 2"),
    ],
)
def test_a_pickle_that_asks_for_more_than_there_is(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "00.pkl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=told):
        read_table(path)

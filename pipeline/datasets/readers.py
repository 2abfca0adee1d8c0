"""Where readers are found: those of the package by name, a user's own by its file."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules

import pipeline.datasets
from cache_schemas.canonical import digest
from cache_schemas.errors import BadInput, GriddleError
from pipeline.datasets.fence import reading
from pipeline.datasets.reader import Reader, Traits
from pipeline.datasets.record_checks import check_traits


def reader_named(name: str) -> Reader:
    """The reader that a config names: one of the package, or `path/to/file.py:Class`.

    Raises:
        BadInput: if there is none of that name, or the file has no such class, fails to load, or is no reader.
    """
    file, colon, class_name = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _own(Path(file).resolve(), class_name)
    known = packaged()
    if name not in known:
        raise BadInput(
            f"there is no reader {name!r}; there are {', '.join(known)}, or name your own by its file and class: "
            f"`reader: my/poss.py:Reader` (docs/your-dataset.md)"
        )
    return known[name]


def source_of(name: str) -> Path | None:
    """The file of a user's own reader, or None for one of the package."""
    file, colon, _ = name.rpartition(":")
    return Path(file) if colon and file.endswith(".py") else None


@cache
def packaged() -> dict[str, Reader]:
    """All readers in the folders of `pipeline/datasets/`, by name: a folder's `reader` module lists its own."""
    by_name: dict[str, Reader] = {}
    for module in iter_modules(pipeline.datasets.__path__):
        if module.ispkg and find_spec(f"pipeline.datasets.{module.name}.reader"):
            readers = import_module(f"pipeline.datasets.{module.name}.reader").READERS
            by_name |= {reader.traits.reader: reader for reader in readers}
    return by_name


@cache
def _own(path: Path, class_name: str) -> Reader:
    if not path.is_file():
        raise BadInput(
            f"reader: {path} is not there; give the path of a file, from where you run the command"
        )
    # A name of its own: two readers may both lie in a file `reader.py`.
    module_name = f"griddle_reader_{digest(str(path))}"
    spec = spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        with reading(f"reader: {path}:{class_name} cannot be loaded"):
            spec.loader.exec_module(module)
            reader = getattr(module, class_name)()
    except GriddleError:
        del sys.modules[module_name]
        raise
    if not isinstance(reader, Reader) or not isinstance(getattr(reader, "traits", None), Traits):
        raise BadInput(
            f"reader: {path}:{class_name} is no griddle.Reader with `traits`; docs/your-dataset.md shows one"
        )
    try:
        check_traits(reader.traits)
    except ValueError as error:
        raise BadInput(f"reader: {path}:{class_name}: {error} (docs/your-dataset.md)") from error
    return reader

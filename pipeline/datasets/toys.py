"""The formats in which a toy town can be written: those of the datasets whose folder has a `toy.py`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.datasets.town.tree import Progress, ToySummary


class ToyWriter(Protocol):
    """`write_toy` of a dataset's module `toy`; a format's own arguments have defaults."""

    def __call__(
        self,
        root: Path,
        *,
        train: int,
        val: int,
        scans: int,
        seed: int,
        processes: int | None,
        progress: Progress | None,
    ) -> ToySummary: ...


def toy_formats() -> list[str]:
    """Names of the formats, found without importing any."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/toy.py"))


def toy_writer(name: str) -> ToyWriter:
    """The writer of one of `toy_formats()`."""
    writer: ToyWriter = import_module(f"pipeline.datasets.{name}.toy").write_toy
    return writer

"""Files that could not be read when the partitions of a run were written, as their manifests list them; and whether the config
allows that they are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cache_schemas.errors import BadInput
from pipeline.config.model import Dataset

if TYPE_CHECKING:
    from cache_schemas.reading import PartitionReader


def left_out_of(stores: Iterable[PartitionReader]) -> list[str]:
    """The files that some stores of one partition lack, each once, and why. Stores of views lack none: without its file a view
    is not written."""
    lines = {
        item["what"]: f"{store.manifest.partition}: {item['what']}: {item['why']}"
        for store in stores
        for item in store.manifest.left_out
    }
    return list(lines.values())


def lost_scans(store: PartitionReader) -> set[str]:
    """The names of the scans of which a scan or label store lacks the file."""
    return store.manifest.lost_scans


def check_left_out(datasets: Mapping[str, Dataset], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """The files that the partitions of a run lack, given by dataset, as one list.

    Raises:
        BadInput: for a dataset whose config says `on_error: raise`: another config wrote these partitions.
    """
    for name, lines in left_out.items():
        if lines and datasets[name].on_error == "raise":
            raise BadInput(
                f"the cache lacks {len(lines)} file(s) of {name} that could not be read when it was written under "
                f"`on_error: skip`, and datasets.{name}.on_error is `raise`. The first: {lines[0]}\n"
                f"Mend them and run the same snakemake command again, or write datasets.{name}.on_error: skip."
            )
    return [f"{name} {line}" for name, lines in left_out.items() for line in lines]

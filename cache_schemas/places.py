"""Where the stores of a cache lie: the folder of a store, and the store of a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

PARTITION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Of a partition: what stands before the first point in the names of its files."""
NAME_LENGTH = 100
"""Characters that a name may have. File systems take 255 bytes, in which a digest, a host and more stand beside it."""

PLACES = {
    "scans": "scans/*",
    "labels": "scans/*/labels/*",
    "views": "views/*",
    "full_scans": "full_scans/*",
    "features": "features/*/*",
}
"""The folders of each kind of store, relative to the cache."""


WEIGHTS_LOCK = "weights.lock.json"
"""In a cache, or in a workdir where the cache is read-only: the digests of the weights that each teacher had at first use."""


@dataclass(frozen=True)
class Place:
    """What a store's folder says of the store.

    Attributes:
        kind: one of PLACES.
        id: `<dataset>-<digest>`; of labels `<label map>-<digest>`, of features the teacher's.
        dataset: its name.
    """

    kind: str
    id: str
    dataset: str

    @property
    def digest(self) -> str:
        """The last part of the id."""
        return self.id.rsplit("-", 1)[-1]


def folder_of(kind: str, store_id: str, dataset: str, scans_id: str = "") -> str:
    """The folder of a store, relative to the cache. scans_id: of the scan store that labels belong to.

    >>> folder_of("labels", "nuscenes-7340037705", "toy", "toy-497a07ddc5")
    'scans/toy-497a07ddc5/labels/nuscenes-7340037705'
    >>> folder_of("features", "vit_tiny-6093ac1e6f", "toy")
    'features/vit_tiny-6093ac1e6f/toy'
    """
    if kind == "labels":
        return f"scans/{scans_id}/labels/{store_id}"
    if kind == "features":
        return f"features/{store_id}/{dataset}"
    return f"{kind}/{store_id}"


def place_of(kind: str, folder: str) -> Place:
    """What the folder of a store says, relative to the cache.

    >>> place_of("labels", "scans/toy-497a07ddc5/labels/nuscenes-7340037705")
    Place(kind='labels', id='nuscenes-7340037705', dataset='toy')
    """
    parts = folder.split("/")
    if kind == "features":
        return Place(kind, parts[1], parts[2])
    return Place(kind, parts[-1], parts[1].rsplit("-", 1)[0])

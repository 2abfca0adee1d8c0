"""`open_cache`: the stores of a cache for anyone, without a config: names, counts, arrays for dask, features by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from cache_schemas.contents import store_folders
from cache_schemas.errors import BadInput
from cache_schemas.places import PLACES
from pipeline.cache.open_features import OpenedFeatures, unknown_image
from pipeline.cache.open_store import OpenedStore

if TYPE_CHECKING:
    from pipeline.teachers.sampling import Sampling

AnyStore = TypeVar("AnyStore", bound=OpenedStore)


def open_cache(path: str | Path) -> OpenedCache:
    """Open a cache to read it. Nothing is written. At first only the names of files are read.

    Raises:
        BadInput: if there is no cache.
    """
    return OpenedCache(Path(path))


class OpenedCache:
    """The stores of one cache.

    Attributes:
        path: the cache's folder.
        stores: all of them, of every kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stores = find_stores(path)
        if not self.stores:
            raise _no_cache(path)

    def __repr__(self) -> str:
        return "\n".join([f"cache {self.path}", *(f"  {store!r}" for store in self.stores)])

    def store(self, name: str) -> OpenedStore:
        """The store with this name. Its kind, or the first part of its name, is enough if only one store has it.

        Raises:
            BadInput: if no store or several stores have it.
        """
        exact = [store for store in self.stores if store.name == name]
        matches = exact or [s for s in self.stores if s.kind == name or s.name.startswith(name)]
        return _only(matches, self.stores, f"{self.path} has {{}} {name!r}", "give a whole name")

    def features(self, teacher: str | None = None, dataset: str | None = None) -> OpenedFeatures:
        """The feature store of a teacher and a dataset. Either may be left out if there is only one.

        teacher: its id, or the first part of it, such as the model's name.

        Raises:
            BadInput: if none or several fit.
        """
        matches = self._features(teacher, dataset)
        subject = (
            f"{self.path} has {{}} feature store of teacher {teacher or 'any'}, dataset {dataset or 'any'}"
        )
        return _only(matches, self._features(None, None), subject, _CHOOSE)

    def patch_grid(self, image: str, *, teacher: str | None = None, dataset: str | None = None) -> np.ndarray:
        """(rows, cols, channels) float32 of an image; raises as `features_at`."""
        return self._holding(image, teacher, dataset).patch_grid(image)

    def features_at(
        self,
        image: str,
        pixels: npt.ArrayLike,
        *,
        teacher: str | None = None,
        dataset: str | None = None,
        sampling: Sampling = "published",
        original: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """The teacher's features (n, channels) float32 at pixels of an original image.

        image: its path, relative to the dataset's root. pixels: (n, 2) continuous (u, v): column and row of the
        original image; pixel i covers [i, i + 1). sampling: `published` (as ScaLR's code rounds) or `subpixel`.
        original: its (width, height); a view store in the cache knows it.

        Raises:
            BadInput: if no store holds the image, or stores of several teachers or datasets do, or its size is not known.
            DamagedCache: naming the file, if the stored bytes are not those that were written.
            ValueError: if a pixel lies outside the image.
        """
        store = self._holding(image, teacher, dataset)
        size = original or self._original_size(image, store)
        return store.features_at(image, pixels, original=size, sampling=sampling)

    def pixel_features(
        self, image: str, *, teacher: str | None = None, dataset: str | None = None
    ) -> np.ndarray:
        """The published features (H, W, channels) float32 of all pixels of the teacher's input; raises as `features_at`.

        The patch grid, enlarged bilinearly with corners aligned (ScaLR, section 3.2).
        """
        return self._holding(image, teacher, dataset).pixel_features(image)

    def _features(self, teacher: str | None, dataset: str | None) -> list[OpenedFeatures]:
        return [
            store
            for store in self.stores
            if isinstance(store, OpenedFeatures)
            and (teacher is None or store.teacher.startswith(teacher))
            and (dataset is None or store.dataset == dataset)
        ]

    def _holding(self, image: str, teacher: str | None, dataset: str | None) -> OpenedFeatures:
        """The one store that holds an image."""
        fitting = self._features(teacher, dataset) or [self.features(teacher, dataset)]
        holding = [store for store in fitting if image in store]
        if not holding:
            raise unknown_image(image, fitting)
        return _only(holding, holding, f"{self.path} has {image} in {{}} feature store", _CHOOSE)

    def _original_size(self, image: str, features: OpenedFeatures) -> tuple[int, int]:
        """(width, height) of an original image, from the view store's partition of the same name."""
        partition, _ = features.place(image)
        for store in self.stores:
            if store.kind == "views" and store.dataset == features.dataset and partition in store.partitions:
                reader = store.partition(partition)
                images = reader.attributes["images"]
                if image in images:
                    height, width = reader.read("image_size")[images.index(image)]
                    return int(width), int(height)
        raise BadInput(
            f"no view store in {self.path} has {image}, so the size of the original is not known here; give "
            f"original=(width, height)"
        )


_CHOOSE = "give teacher=... or dataset=..."


def _only(matches: Sequence[AnyStore], known: Sequence[OpenedStore], subject: str, remedy: str) -> AnyStore:
    """The only one of the stores that match.

    Raises:
        BadInput: if none or several do, listing these, or all that are known.
    """
    if len(matches) == 1:
        return matches[0]
    listed = "".join(f"\n  {store.name}" for store in matches or known)
    if matches:
        raise BadInput(f"{subject.format('more than one')}; {remedy}:{listed}")
    raise BadInput(f"{subject.format('no')}; it has:{listed or ' none'}")


def find_stores(cache: Path) -> list[OpenedStore]:
    """The stores of a cache that hold a partition."""
    stores = [
        (OpenedFeatures if store.stage == "features" else OpenedStore)(
            store.stage, store.folder, store.place.dataset, store.path
        )
        for store in store_folders(cache)
    ]
    return [store for store in stores if store.partitions]


def _no_cache(path: Path) -> BadInput:
    if not path.exists():
        return BadInput(
            f"{path} does not exist; a cache is what the config names `cache`, else <workdir>/cache"
        )
    inside = path / "cache"
    if inside.is_dir() and find_stores(inside):
        return BadInput(f"{path} is no cache, but holds one: open {inside}")
    for above in list(path.resolve().parents)[:4]:
        if find_stores(above):
            return BadInput(f"{path} is no cache, but lies in one: open {above}")
    return BadInput(
        f"{path} is no cache: none of {', '.join(PLACES.values())} in it holds a manifest. A cache is what the config "
        f"names `cache`, else <workdir>/cache; `griddle inspect` says what a file is"
    )

"""A feature store, opened: patch grids by the image's name, and the features of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cache_schemas.errors import BadInput
from cache_schemas.places import place_of
from cache_schemas.reading import PartitionReader
from cache_schemas.storage import decode
from pipeline.cache.open_store import OpenedStore

if TYPE_CHECKING:
    import dask.array

    from pipeline.teachers.sampling import Sampling

TOGETHER = 16
"""Patch grids that are read at once on the way to float32."""


class OpenedFeatures(OpenedStore):
    """The features of one teacher for the images of one dataset. Images are named by their path in the dataset's root."""

    @property
    def teacher(self) -> str:
        """The teacher's id."""
        return place_of(self.kind, self.name).id

    @cached_property
    def images(self) -> list[str]:
        """In the order of the rows of `patch_grids`."""
        return self.attribute("images")

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels of the teacher's input."""
        height, width = self.partition(self.partitions[0]).attributes["image_size"]
        return height, width

    def __contains__(self, image: str) -> bool:
        return image in self._places

    def patch_grids(self) -> dask.array.Array:
        """(images, rows, cols, channels) float32, lazy; a dask chunk is a whole shard. `unreadable` images are zeros.

        `array("features")` gives the same in the stored type; sums of float16 overflow.

        Raises:
            DamagedCache: if a partition is not valid; when it is computed, if a chunk is not the one that was written.
        """
        return self.rows("features", read_grids, dtype="float32")

    def patch_grid(self, image: str) -> np.ndarray:
        """(rows, cols, channels) float32 of one image.

        Raises:
            BadInput: if the store does not hold the image, or it could not be read when the store was written.
            DamagedCache: if it is not what was written.
        """
        partition, row = self.place(image)
        reader = self.partition(partition)
        if row in reader.attributes["unreadable"]:
            why = next((item["why"] for item in reader.manifest.left_out if item["what"] == image), "")
            raise BadInput(
                f"{image} has no features in {reader.manifest.path}: it could not be read ({why}), and on_error: skip "
                f"left it out"
            )
        return read_grids(reader, row, row + 1)[0]

    @cached_property
    def unreadable(self) -> list[str]:
        """Images that could not be read when the store was written; `patch_grids` holds zeros for them."""
        readers = [self.partition(name) for name in self.partitions]
        return [
            reader.attributes["images"][row] for reader in readers for row in reader.attributes["unreadable"]
        ]

    def features_at(
        self,
        image: str,
        pixels: npt.ArrayLike,
        *,
        original: tuple[int, int],
        sampling: Sampling = "published",
    ) -> np.ndarray:
        """The features (n, channels) float32 at pixels of the original image.

        pixels: (n, 2) continuous (u, v): column and row; pixel i covers [i, i + 1). original: its (width, height).
        sampling: `published` rounds to pixels as ScaLR's code does, `subpixel` does not.

        Raises:
            BadInput: if the store does not hold the image.
            DamagedCache: if it is not what was written.
            ValueError: if a pixel lies outside the image.
        """
        import torch

        from pipeline.teachers.sampling import grid_coordinates, sample_grid

        points = np.asarray(pixels, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"pixels must have the shape (n, 2), not {points.shape}")
        grid = self.patch_grid(image)
        rows, cols = grid.shape[:2]
        coordinates = grid_coordinates(
            points, original=original, image=self.image_size, rows=rows, cols=cols, mode=sampling
        )
        return sample_grid(torch.from_numpy(grid), torch.from_numpy(coordinates)).numpy()

    def pixel_features(self, image: str) -> np.ndarray:
        """The published features (H, W, channels) float32 of all pixels of the teacher's input image.

        The patch grid, enlarged bilinearly with corners aligned (ScaLR, section 3.2). Pixel p of an original that is
        W0 pixels wide is column floor(p * (W / W0)). It is large: H * W * channels * 4 bytes.

        Raises:
            BadInput: if the store does not hold the image.
            DamagedCache: if it is not what was written.
        """
        import torch

        grid = torch.from_numpy(self.patch_grid(image))  # (rows, cols, C)
        pixels = torch.nn.functional.interpolate(
            grid.permute(2, 0, 1)[None], size=self.image_size, mode="bilinear", align_corners=True
        )
        return pixels[0].permute(1, 2, 0).numpy()

    def place(self, image: str) -> tuple[str, int]:
        """The partition that holds an image, and its row there.

        Raises:
            BadInput: if none does.
        """
        if image not in self:
            raise unknown_image(image, [self])
        return self._places[image]

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        return {
            image: (name, row)
            for name in self.partitions
            for row, image in enumerate(self.partition(name).attributes["images"])
        }


def read_grids(reader: PartitionReader, start: int, stop: int) -> np.ndarray:
    """Patch grids (images, rows, cols, channels) float32 of some rows of a feature partition."""
    grids = np.empty((stop - start, *reader.shape("features")[1:]), np.float32)
    for first in range(0, len(grids), TOGETHER):  # a shard may be large, and must not be in memory twice
        last = min(first + TOGETHER, len(grids))
        rows = start + first, start + last
        scales = reader.read("scales", *rows) if reader.has("scales") else None
        grids[first:last] = decode(reader.read("features", *rows), scales)
    return grids


def unknown_image(image: str, stores: Sequence[OpenedFeatures]) -> BadInput:
    """The error for an image that none of these stores holds."""
    name = PurePosixPath(image).name
    known = [path for store in stores for path in store.images]
    near = next((path for path in known if PurePosixPath(path).name == name), None)
    hint = (
        f"did you mean {near!r}?"
        if near
        else f"images are named by their path in the dataset, as {known[0]!r}"
    )
    where = "".join(f"\n  {store.name}: {len(store.images)} images" for store in stores)
    return BadInput(f"there is no image {image!r} in{where}\n{hint}")

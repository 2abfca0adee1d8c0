"""The features stage: the teacher runs once over every image of a partition."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache_schemas.features import features_schema
from cache_schemas.fidelity import Fidelity
from cache_schemas.manifest import Manifest
from cache_schemas.storage import decode, encode, groups
from cache_schemas.writing import PartitionWriter
from pipeline.datasets.records import ImageRecord, PartitionRecord
from pipeline.plan import Store
from pipeline.teachers.images import read_image, to_input
from pipeline.teachers.loaded import LoadedTeacher


def write_features(
    teacher: LoadedTeacher, root: Path, store: Store, partition: PartitionRecord, member: str, folder: Path
) -> Manifest:
    """Run the teacher over a partition's images, in order, and publish their patch grids.

    Raises:
        BadInput: naming the file, for an image that is missing, truncated or of another size.
    """
    images = partition.images
    config = teacher.config
    with PartitionWriter(
        folder,
        features_schema(config.storage),
        partition=partition.name,
        member_digest=member,
        identity=store.identity,
        attributes={
            "images": [image.path for image in images],
            "teacher": {**store.identity, "weights_digest": teacher.weights_digest},
            "licence": teacher.licence,
            "image_size": list(config.image_size),
            "patch": teacher.patch,
        },
    ) as writer:
        stored = StoredFeatures(writer, config.storage, (len(images), *teacher.grid, teacher.channels))
        for batch in _batches(root, images, config.image_size, config.antialias, config.images_per_batch):
            stored.append(teacher.features(batch))
        return writer.publish(counts={"images": len(images)}, left_out=[], measured=stored.fidelity.report())


class StoredFeatures:
    """The arrays of a feature partition being written, and how near they are to what was computed."""

    def __init__(self, writer: PartitionWriter, storage: str, shape: tuple[int, int, int, int]) -> None:
        self._storage = storage
        self._arrays = {"features": writer.create("features", shape)}
        if storage == "int8":
            self._arrays["scales"] = writer.create("scales", (*shape[:3], groups(shape[3])))
        self.fidelity = Fidelity(shape[3])

    def append(self, computed: np.ndarray) -> None:
        """Patch grids (B, rows, cols, C) float32, in the order of the images.

        Raises:
            BadInput: if a value does not fit the storage type, or is not finite.
        """
        encoded = encode(computed, self._storage)
        for name, array in self._arrays.items():
            array.append(encoded[name])
        stored = decode(encoded["features"], encoded.get("scales"))
        for one, kept in zip(computed, stored, strict=True):
            self.fidelity.add(one, kept)


def _batches(
    root: Path, images: tuple[ImageRecord, ...], size: tuple[int, int], antialias: bool, count: int
) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) of decoded images, the next one read while the teacher works on this one."""

    def load(batch: tuple[ImageRecord, ...]) -> Tensor:
        return torch.stack([to_input(read_image(root, image), size, antialias) for image in batch])

    parts = [images[first : first + count] for first in range(0, len(images), count)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(load, parts[0])
        for part in parts[1:]:
            ready, ahead = ahead.result(), pool.submit(load, part)
            yield ready
        yield ahead.result()

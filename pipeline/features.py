"""The features stage: the teacher runs once over every image of a partition."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest
from cache_schemas.writing import PartitionWriter
from pipeline.datasets.records import ImageRecord, PartitionRecord
from pipeline.plan import Store
from pipeline.teachers.images import read_image, to_input
from pipeline.teachers.vit import LoadedTeacher


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
            "image_size": list(config.image_size),
            "patch": teacher.patch,
        },
    ) as writer:
        array = writer.create("features", (len(images), *teacher.grid, teacher.channels))
        for batch in _batches(root, images, config.image_size, config.antialias, config.images_per_batch):
            array.append(teacher.features(batch))
        return writer.publish(counts={"images": len(images)}, left_out=[])


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

"""The features stage: the teacher runs once over every image of a partition."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache_schemas.errors import BadInput
from cache_schemas.features import features_schema
from cache_schemas.fidelity import Fidelity, losses
from cache_schemas.manifest import Manifest
from cache_schemas.storage import decode, encode, groups
from cache_schemas.writing import PartitionWriter
from pipeline.common.progress import Progress
from pipeline.datasets.data_warnings import Warnings
from pipeline.datasets.image_checks import Pictures, stride
from pipeline.preprocessing.source_files import SourceFiles
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.unreadable import Unreadable
from pipeline.teachers.flow import Flow, Load, Passage
from pipeline.teachers.images import black_input, load_input
from pipeline.teachers.loaded import LoadedTeacher
from pipeline.teachers.same_features import computed_with

IN_FLIGHT = 2
"""Partitions at once: one is computed while the one before it is checked, flushed and published."""


class FeatureWriter:
    """A context in which a teacher's features of partitions are computed and written.

    Args:
        name: of the teacher in the config, for errors.
        progress: counts every image, if given.
        skip: whether an image that cannot be read is left out, and listed.
    """

    def __init__(
        self, teacher: LoadedTeacher, name: str, progress: Progress | None = None, *, skip: bool = False
    ) -> None:
        self._teacher, self._progress, self._skip = teacher, progress, skip
        config = teacher.config
        self._flow: Flow[Encoded] = Flow(
            teacher, name, config.images_per_batch, partial(encode_image, storage=config.storage)
        )

    def __enter__(self) -> FeatureWriter:
        self._flow.__enter__()
        self._writers = ThreadPoolExecutor(IN_FLIGHT, "write")
        return self

    def __exit__(self, *error: object) -> None:
        # What is computed whole is still published; what is not comes back as a cancelled future, and is dropped.
        self._writers.shutdown(wait=True)
        self._flow.__exit__(*error)

    def write(self, root: Path, target: Target) -> Future[Manifest]:
        """Run the teacher over a partition's images, in order, and publish their patch grids.

        Returns when all images are handed in. The future gives the manifest when the last of them are computed and
        published. It raises BadInput, naming the file, for an image that is missing, cut, or not what a teacher takes;
        with `skip` only if that is so of every image.

        Args:
            root: of the dataset's files.
        """
        config = self._teacher.config
        passage: Passage[Encoded] = Passage()
        images = target.partition.images
        unreadable, files, pictures = Unreadable(), SourceFiles(len(images)), Pictures()
        published = self._writers.submit(self._collect, passage, unreadable, files, pictures, target)
        loads: list[Load] = [
            partial(
                files.read,
                row,
                root / image.path,
                image.content,
                partial(
                    load_input,
                    root,
                    image,
                    config.image_size,
                    config.antialias,
                    config.decode,
                    self._teacher.device,
                ),
            )
            for row, image in enumerate(images)
        ]
        loads = [
            partial(_load_and_look, load, pictures, row, image.path)
            for row, (load, image) in enumerate(zip(loads, images, strict=True))
        ]
        if self._skip:
            loads = [
                partial(self._load_or_note, load, unreadable, row, image.path)
                for row, (load, image) in enumerate(zip(loads, images, strict=True))
            ]
        self._flow.hand_in(passage, loads)
        return published

    def _load_or_note(self, load: Load, unreadable: Unreadable, row: int, path: str) -> Tensor:
        """An image, or a black one in the place of one that cannot be read, so that batches stay what they are."""
        try:
            return load()
        except BadInput as error:
            unreadable.note(row, path, error)
            return black_input(self._teacher.config, self._teacher.device)

    def _collect(
        self,
        passage: Passage[Encoded],
        unreadable: Unreadable,
        files: SourceFiles,
        pictures: Pictures,
        target: Target,
    ) -> Manifest:
        """In a thread of its own: from the grids of a partition to its manifest."""
        try:
            return self._write(passage, unreadable, files, pictures, target)
        except BaseException:
            self._flow.give_up(passage)
            raise

    def _write(
        self,
        passage: Passage[Encoded],
        unreadable: Unreadable,
        files: SourceFiles,
        pictures: Pictures,
        target: Target,
    ) -> Manifest:
        teacher, images = self._teacher, target.partition.images
        attributes = {
            "images": [image.path for image in images],
            "unreadable": [],
            "teacher": {**target.store.identity, "weights_digest": teacher.weights_digest},
            "licence": teacher.licence,
            "image_size": list(teacher.config.image_size),
            "patch": teacher.patch,
        }
        with target.writer(features_schema(teacher.config.storage), attributes) as writer:
            shape = (len(images), *teacher.grid, teacher.channels)
            stored = StoredFeatures(writer, teacher.config.storage, shape)
            for row, image in enumerate(self._flow.take(passage)):
                size = stored.append_zeros(image) if row in unreadable else stored.append(image)
                if self._progress:
                    self._progress.add(target.partition.name, 1, size)
            unreadable.check_some_readable(len(images), "images")
            writer.set_attribute("unreadable", unreadable.rows)
            warnings = Warnings()
            pictures.warn(warnings)
            return writer.publish(
                counts={"images": len(images), **unreadable.counts},
                left_out=unreadable.left_out(),
                warnings=warnings.entries(len(images), "images"),
                measured=stored.fidelity.report(),
                sources=files.contents,
                made_with={
                    **computed_with(teacher),
                    "threads": self._flow.threads,
                    "seconds": round(passage.seconds, 3),
                    "images_per_second": round(len(images) / max(passage.seconds, 1e-9), 3),
                },
            )


def _load_and_look(load: Load, pictures: Pictures, row: int, path: str) -> Tensor:
    """An image, of which some pixels are looked at."""
    image = load()
    _, height, width = image.shape
    pictures.note(row, path, image[:, :: stride(height), :: stride(width)].cpu().numpy())
    return image


@dataclass(frozen=True)
class Encoded:
    """One image as it is stored.

    Attributes:
        arrays: each (1, ...), by their names in the store.
        losses: (3, C), as `cache_schemas.fidelity.losses` gives them.
    """

    arrays: dict[str, np.ndarray]
    losses: np.ndarray


def encode_image(computed: np.ndarray, storage: str) -> Encoded:
    """A patch grid (1, rows, cols, C) float32 as it is stored.

    Raises:
        BadInput: if a value does not fit the storage type, or is not finite.
    """
    values = computed
    if storage == "float16":  # torch rounds as numpy does, and 50 times as fast
        values = torch.from_numpy(computed).half().numpy()
    arrays = encode(values, storage)
    stored = decode(arrays["features"], arrays.get("scales"))
    return Encoded(arrays, losses(computed[0], stored[0]))


class StoredFeatures:
    """The arrays of a feature partition being written, and how near they are to what was computed."""

    def __init__(self, writer: PartitionWriter, storage: str, shape: tuple[int, int, int, int]) -> None:
        self._arrays = {"features": writer.create("features", shape)}
        if storage == "int8":
            self._arrays["scales"] = writer.create("scales", (*shape[:3], groups(shape[3])))
        self.fidelity = Fidelity(shape[3])

    def append(self, image: Encoded) -> int:
        """The next image; returns the bytes that are stored."""
        for name, array in self._arrays.items():
            array.append(image.arrays[name])
        self.fidelity.add_losses(image.losses)
        return sum(part.nbytes for part in image.arrays.values())

    def append_zeros(self, image: Encoded) -> int:
        """Zeros in the place of an image that could not be read; they are no part of the fidelity."""
        for name, array in self._arrays.items():
            array.append(np.zeros_like(image.arrays[name]))
        return sum(part.nbytes for part in image.arrays.values())

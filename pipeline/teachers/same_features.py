"""Whether a teacher still computes the features that are stored, with other versions or on another device."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cache_schemas.errors import DamagedCache, GriddleError
from cache_schemas.features import features_schema
from cache_schemas.manifest import differences, made, manifest_path, open_partition
from cache_schemas.reading import PartitionReader
from cache_schemas.sources import holds_another
from cache_schemas.storage import decode, encode
from pipeline.common.log import log
from pipeline.config.model import Teacher
from pipeline.datasets.index import PartitionEntry
from pipeline.datasets.records import PartitionRecord
from pipeline.teachers.flow import filled_up
from pipeline.teachers.images import black_input, load_input

CLOSE = 0.9999
"""The least cosine, over the patches of an image, at which features count as the same."""
IMAGES = 4
"""So many stored images are computed again where versions or the device have changed."""


class Computes(Protocol):
    """What is needed of a loaded teacher."""

    @property
    def config(self) -> Teacher: ...

    @property
    def device(self) -> torch.device: ...

    def features(self, images: torch.Tensor) -> np.ndarray: ...


@dataclass(frozen=True)
class Compared:
    """One stored image beside what the teacher computes today.

    Attributes:
        cosine: the lowest over its patches.
        source_changed: whether the image file holds something else than it was made of, where that was recorded. Then other
            features say nothing of the store.
        as_then: whether versions, device and batch are those that it was computed with. Then bits are the same on most
            processors, and no more is promised: kernels of a processor may round by the number of threads or images.
    """

    image: str
    manifest: Path
    equal: bool
    cosine: float
    source_changed: bool
    as_then: bool

    @property
    def same(self) -> bool:
        return self.cosine >= CLOSE


def computed_with(teacher: Computes) -> dict[str, Any]:
    """What may change bits and is no identity; the feature store records it in `made`."""
    if teacher.device.type == "cuda":
        return {
            "device": torch.cuda.get_device_name(teacher.device),
            "cuda": torch.version.cuda,
            "images_per_batch": teacher.config.images_per_batch,
        }
    # Each image alone, by one thread (`pipeline/teachers/flow.py`).
    return {
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "cuda": None,
        "images_per_batch": 1,
    }


def check_unchanged(
    teacher: Computes,
    folder: Path,
    root: Path,
    members: Sequence[tuple[PartitionEntry, str]],
    load: Callable[[PartitionEntry], PartitionRecord],
) -> list[Compared]:
    """Before more features are computed into a store, compute four of its images again, if all of its features were
    computed with other versions or on another device.

    Args:
        folder: the feature store of one dataset.
        root: the dataset's.
        members: the partitions of the store that may be there, with their member digests.
        load: the record of a partition.

    Returns:
        The comparisons; none where something in the store was computed with today's, or nothing is there.

    Raises:
        GriddleError: if an image's cosine is below `CLOSE`, with what has changed; or if its file was.
    """
    now = _surroundings({**made(), **computed_with(teacher)})
    stored: list[tuple[PartitionEntry, str]] = []
    changed: list[str] = []
    for entry, member in members:
        if not manifest_path(folder, entry.name, member).exists():
            continue
        try:
            then = _surroundings(open_partition(folder, entry.name, member).body["made"])
        except DamagedCache:
            continue  # it will be computed anew
        if then == now:
            return []
        stored.append((entry, member))
        changed = differences(then, now)
    if not stored:
        return []
    chosen = random.sample(stored, min(IMAGES, len(stored)))
    compared = []
    for number in range(IMAGES):
        entry, member = chosen[number % len(chosen)]
        record = load(entry)
        image = random.choice(readable(teacher.config, folder, entry.name, member))
        compared.append(compare(teacher, folder, root, record, member, image))
    for comparison in compared:
        if comparison.source_changed and not comparison.same:
            raise GriddleError(
                f"{root / comparison.image} holds something else than the features in {folder} were made of. Run `griddle index "
                f"--force` with the same config, then the same command again."
            )
    changes = "; ".join(text.replace(", wanted ", ", now ") for text in changed)
    lowest = min(compared, key=lambda image: image.cosine)
    if lowest.cosine < CLOSE:
        raise GriddleError(
            f"{teacher.config.model} computes other features here than those in {folder}: the lowest cosine of "
            f"{len(compared)} images computed again is {lowest.cosine:.6f} ({lowest.image}), and {CLOSE} is needed. "
            f"What has changed: {changes}. Compute with what the others were computed with, or into another cache."
        )
    log(
        f"features: {folder} was computed with other versions ({changes}); {len(compared)} of its images computed again "
        f"agree, lowest cosine {lowest.cosine:.7f}"
    )
    return compared


def compare(
    teacher: Computes, folder: Path, root: Path, record: PartitionRecord, member: str, number: int
) -> Compared:
    """Compute image `number` of a stored partition again, as it was computed: in its batch, by one thread.

    Raises:
        BadInput: naming the file, for an image that cannot be read.
        DamagedCache: if what is stored cannot be read.
    """
    config = teacher.config
    reader = PartitionReader(folder, features_schema(config.storage), record.name, member)
    then: Mapping[str, Any] = reader.manifest.body["made"]
    now = computed_with(teacher)
    count = int(then.get("images_per_batch") or now["images_per_batch"])
    first = number // count * count
    lost = set(
        reader.attributes["unreadable"]
    )  # black in the batch that was computed (`pipeline/preprocessing/features.py`)
    with one_thread():  # loading, too: torch's resize rounds by the number of threads
        batch = [
            black_input(config, teacher.device)
            if row in lost
            else load_input(root, image, config.image_size, config.antialias, config.decode, teacher.device)
            for row, image in enumerate(record.images[first : first + count], first)
        ]
        images = filled_up(batch, count) if teacher.device.type == "cuda" else torch.stack(batch)
        fresh = encode(teacher.features(images)[number - first], config.storage)
    stored = {name: reader.read(name, number, number + 1)[0] for name in fresh}
    now = {**made(), **now, "images_per_batch": count}
    alike = ("versions", "device", "cuda", "images_per_batch")
    return Compared(
        record.images[number].path,
        reader.manifest.path,
        all(np.array_equal(fresh[name], stored[name]) for name in fresh),
        lowest_cosine(_values(fresh), _values(stored)),
        holds_another(reader.manifest, {number: root / record.images[number].path}),
        all(name in then and then[name] == now[name] for name in alike),
    )


def readable(config: Teacher, folder: Path, partition: str, member: str) -> list[int]:
    """The rows of the images of a stored partition that could be read when it was written."""
    reader = PartitionReader(folder, features_schema(config.storage), partition, member)
    lost = set(reader.attributes["unreadable"])
    return [row for row in range(reader.shape("features")[0]) if row not in lost]


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes inside, it computes as a flow's threads do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _values(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return decode(arrays["features"], arrays.get("scales"))


def lowest_cosine(fresh: np.ndarray, stored: np.ndarray) -> float:
    """Over the last axis, in float64; -1 where shapes differ or a value is not finite."""
    if fresh.shape != stored.shape:
        return -1.0
    a, b = fresh.astype(np.float64), stored.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~a.any(-1) & ~b.any(-1)
    cosine = np.where(both_zero, 1.0, (a * b).sum(-1) / np.where(lengths > 0, lengths, 1.0))
    return float(np.nan_to_num(cosine, nan=-1.0).min())


def _surroundings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Of a manifest's section `made`, what may change features."""
    versions = section.get("versions", {})
    return {
        "torch": versions.get("torch"),
        "timm": versions.get("timm"),
        "cuda": section.get("cuda"),
        "device": section.get("device"),
    }

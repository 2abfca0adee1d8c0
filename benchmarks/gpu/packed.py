"""What `pack.sh` put into a folder, and how it is opened on a machine that has no devkit: indices come with it.

wheels/       packages that a bare machine lacks, for Python 3.12 on Linux, x86-64
nuscenes/     the pictures and lidar files of a few real keyframes
toy/          a small toy tree in nuScenes' format, with labels
index/        of both, as `griddle index` wrote it
cache/        the toy's stores: points, labels, views, whole scans, and patch grids of tiny teachers
authors/      the published code, where pack.sh was given it
"""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config.model import Config
from pipeline.datasets.index import Index, read_index
from pipeline.datasets.records import ImageRecord, ScanRecord

NUSCENES = "nuscenes"
TOY = "toy"
VERSION = "v1.0-trainval"
TINY: dict[str, Any] = {"model": "vit_tiny_patch16_224", "weights": "untrained", "image_size": [64, 128]}
TEACHERS: dict[str, dict[str, Any]] = {
    "tiny": TINY,
    "second": {**TINY, "seed": 1},
    "int8": {**TINY, "storage": "int8"},
}
"""Their patch grids lie in the cache."""


@dataclass(frozen=True)
class Packed:
    """The folder."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "index" / NUSCENES / "index.json").is_file():
            raise FileNotFoundError(
                f"{self.folder} holds nothing that pack.sh made; run benchmarks/gpu/pack.sh where there is a network, or "
                f"give --packed"
            )

    @property
    def recordings(self) -> Path:
        """The root of the real keyframes, below which their files lie as nuScenes has them."""
        return self.folder / NUSCENES

    def index(self, name: str) -> Index:
        found = read_index(self.folder, name)
        if found is None:
            raise ValueError(
                f"{self.folder / 'index' / name} is of another version of Griddle; run pack.sh again"
            )
        return found

    @cached_property
    def scans(self) -> tuple[ScanRecord, ...]:
        """The real keyframes; paths are relative to `recordings`."""
        index = self.index(NUSCENES)
        return tuple(scan for entry in index.partitions for scan in index.load_partition(entry).scans)

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """The real pictures; paths are relative to `recordings`."""
        return tuple(image for scan in self.scans for image in scan.images)

    @property
    def weights(self) -> Path | None:
        """A file with the weights of a trained DINOv2 ViT-S/14, from the second folder, where that is there."""
        path = self.folder.parent / "gpu_weights" / "dinov2_vits14.safetensors"
        return path if path.is_file() else None

    def toy_cache(self, folder: Path) -> Path:
        """A copy of the toy's cache that may be written into; the same one for the same folder."""
        if not folder.exists():
            beside = folder.with_name(f".copying-{folder.name}")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(self.folder / "cache", beside)
            beside.rename(folder)
        return folder

    def toy_experiment(self, workdir: Path, cache: Path, **blocks: Any) -> dict[str, Any]:
        """The blocks of a config for the toy, whose index lies in the workdir then."""
        index = workdir / "index" / TOY
        if not index.exists():
            shutil.copytree(self.folder / "index" / TOY, index)
        return toy_config(self.folder / TOY, workdir, cache, **blocks)


def toy_config(root: Path, workdir: Path, cache: Path, **blocks: Any) -> dict[str, Any]:
    """A config for the toy with the teachers that are in the cache; `blocks` are added to its own, such as `students`."""
    config: dict[str, Any] = {
        "workdir": str(workdir),
        "cache": str(cache),
        "workers": 0,
        "datasets": {TOY: {"reader": NUSCENES, "root": str(root), "version": VERSION}},
        "teachers": deepcopy(TEACHERS),
    }
    for name, block in blocks.items():
        config[name] = {**config[name], **block} if isinstance(config.get(name), dict) else block
    Config.model_validate(config)
    return config

"""Make what pack.sh packs besides wheels: recordings and their index, a toy town, and a cache of it.

python -m benchmarks.gpu.make_packed build/gpu                       # needs $GRIDDLE_SAMPLES and nuScenes' devkit
python -m benchmarks.gpu.make_packed build/gpu --weights FILE        # also build/gpu_weights, in float16
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.gpu.packed import NUSCENES, TEACHERS, TOY, VERSION, toy_config
from pipeline.config.model import Dataset
from pipeline.datasets.index import make_index
from pipeline.datasets.nuscenes.toy import write_toy
from stages.cli import griddle

TOWN: dict[str, Any] = {"train": 2, "val": 1, "scans": 3, "image": (252, 448), "beams": 32, "azimuths": 360}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Path(exists=True, path_type=Path),
    help="Of a trained DINOv2 ViT-S/14, as $GRIDDLE_REAL_TEACHER names them.",
)
def main(folder: Path, weights: Path | None) -> None:
    """Put recordings, indices and a cache into FOLDER, in the place of those that are there."""
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if not samples:
        raise click.ClickException(
            "real recordings are needed: set GRIDDLE_SAMPLES to the folder that holds nuscenes/"
        )
    for name in (NUSCENES, TOY, "index", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    copy_recordings(Path(samples) / NUSCENES, folder)
    make_toy(folder)
    if weights is not None:
        halve(weights, folder.parent / "gpu_weights" / "dinov2_vits14.safetensors")


def copy_recordings(root: Path, folder: Path) -> None:
    """The index of the keyframes that are there, and their files."""
    index, _ = make_index(folder, NUSCENES, Dataset(reader=NUSCENES, root=str(root), version=VERSION))
    for entry in index.partitions:
        for scan in index.load_partition(entry).scans:
            for path in (scan.path, *(image.path for image in scan.images)):
                target = folder / NUSCENES / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, target)


def make_toy(folder: Path) -> None:
    """A toy tree, its index, and all stores but those of the teachers that are to be run over there."""
    write_toy(folder / TOY, **TOWN)
    shutil.rmtree(folder / TOY / "toy")  # what only a writer reads
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "config.yaml"
        students = {
            name: {"datasets": [TOY], "teacher": name, "pretrain": {"batch": 2}, "probes": ["linear"]}
            for name in TEACHERS
        }
        probes = {"linear": {"batch": 2, "baselines": ["teacher"]}}
        blocks = toy_config(
            folder / TOY, Path(work), (folder / "cache").resolve(), students=students, probes=probes
        )
        path.write_text(yaml.safe_dump(blocks))
        for stage in (["index"], ["scans"], ["scans", "--labels"], ["views"], ["features"]):
            griddle.main(args=[*stage, "--config", str(path)], prog_name="griddle", standalone_mode=False)
        shutil.copytree(Path(work) / "index" / TOY, folder / "index" / TOY)


def halve(weights: Path, target: Path) -> None:
    """A file of weights in float16: half the bytes, and the same features to three digits."""
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, weights_only=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in state.items()}, target)


if __name__ == "__main__":
    main()

"""Images per second of the features stage, end to end, against what the hardware would allow.

    python benchmarks/teacher.py                                          # ViT-S/14 at 224 x 448: minutes on two cores
    python benchmarks/teacher.py --model vit_large_patch14_dinov2.lvd142m --precision bfloat16 --images-per-batch 32 \\
        --scans 40 --threads 16 --peak-tflops 989                         # an H200; also with --image-size 448 896

A run is a whole `features_all`: an index, a plan, its lots one after the other through `do_lot`, every partition
decoded, computed, written, checked, flushed and published. Its images are those in --images (JPEGs and PNGs, in turn),
put into a toy tree in nuScenes format; the teacher is untrained, which costs the same.

The ceiling of a CPU is 1 / (bare forward + CPU time of decoding / cores), of a GPU the smaller of its bare forward and of
what the given cores can decode. It is measured before and after every lot, in the same process: each ratio is one of
neighbours in time. A bare forward runs on images that are in memory already and drops what it computes; on a CPU it is
the faster of two ways, all threads in one image after the other, or each thread in one of its own. Where other work
disturbs the machine, look at the ratio of CPU times: it counts the work, and not the waiting.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.model import Config, Teacher
from pipeline.datasets.index import make_index
from pipeline.datasets.nuscenes.toy import write_toy
from pipeline.datasets.records import ImageRecord
from pipeline.plan.parts import Lot
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.lots import do_lot
from pipeline.teachers.images import load_input
from pipeline.teachers.loaded import LoadedTeacher, load_teacher


@dataclass
class Pace:
    """Seconds an image, on the wall and of CPU time in all threads."""

    wall: float
    cpu: float


@click.command()
@click.option("--model", default="vit_small_patch14_dinov2.lvd142m", show_default=True)
@click.option("--image-size", default=(224, 448), show_default=True, type=(int, int))
@click.option("--precision", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]))
@click.option("--antialias", is_flag=True, help="Antialias the resize, as ScaLR+ does.")
@click.option("--device", default=None, help="cpu or cuda. Default: a GPU where there is one.")
@click.option("--images-per-batch", default=8, show_default=True, help="On a GPU.")
@click.option("--threads", default=None, type=int, help="Default: all cores of this process.")
@click.option("--partitions", default=20, show_default=True)
@click.option("--scans", default=2, show_default=True, help="Of a partition; each has six images.")
@click.option("--lot-partitions", default=4, show_default=True, help="About so many partitions in a lot.")
@click.option("--images", "folder", default=None, help="Default: those of nuScenes in $GRIDDLE_SAMPLES.")
@click.option(
    "--peak-tflops", default=None, type=float, help="Of the device's matrix units, for their share."
)
def main(
    model: str,
    image_size: tuple[int, int],
    precision: str,
    antialias: bool,
    device: str | None,
    images_per_batch: int,
    threads: int | None,
    partitions: int,
    scans: int,
    lot_partitions: int,
    folder: str | None,
    peak_tflops: float | None,
) -> None:
    """Run, measure the ceiling in turn, and print both with their parts."""
    cores = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory(prefix="griddle-benchmark-") as work:
        root = Path(work) / "nuscenes"
        records = make_tree(root, _images(folder), partitions, scans)
        config = _config(root, model, image_size, precision, antialias, images_per_batch, lot_partitions)
        make_index(Path(work), "images", config.datasets["images"])
        plan = plan_experiment(config, Path(work))
        begun = time.monotonic()
        teacher = load_teacher(config.teachers["teacher"], on)
        click.echo(
            f"{model} {precision} at {image_size[0]} x {image_size[1]}, {on}, {cores} thread(s), torch {torch.__version__}; "
            f"{partitions} partitions of {6 * scans} images, {len(plan.lots('features'))} lots\n"
            f"a lot's start-up, apart: teacher {time.monotonic() - begun:.1f} s, Python and its imports {_imports():.1f} s"
        )
        inputs = torch.stack([load_input(root, r, image_size, antialias) for r in records[:12]])
        run(plan, teacher, root, records, inputs, cores, peak_tflops)


def run(
    plan: Plan,
    teacher: LoadedTeacher,
    root: Path,
    records: list[ImageRecord],
    inputs: Tensor,
    cores: int,
    peak_tflops: float | None,
) -> None:
    """Every lot, with the ceiling measured before and after each; then the table."""
    on_gpu = teacher.device.type == "cuda"
    forward_of_lot(teacher, inputs, cores)  # warms up
    before = forward_of_lot(teacher, inputs, cores), decode_pace(root, records[:24], teacher.config)
    rows = []
    click.echo(f"{'images':>6} {'images/s':>9} {'ceiling':>8} {'ratio':>6} {'of CPU time':>11}")
    for lot in plan.lots("features"):
        images = sum(entry.images for entry, _ in lot.members)
        end_to_end = whole_lot(plan, lot, teacher, root, images)
        after = forward_of_lot(teacher, inputs, cores), decode_pace(root, records[:24], teacher.config)
        forward, decode = (_between(a, b) for a, b in zip(before, after, strict=True))
        before = after
        if on_gpu:
            ceiling = min(1 / forward.wall, cores / decode.cpu)
        else:
            ceiling = 1 / (forward.wall + decode.cpu / cores)
        rows.append(
            (
                images,
                1 / end_to_end.wall,
                ceiling,
                1 / end_to_end.wall / ceiling,
                (forward.cpu + decode.cpu) / end_to_end.cpu,
                forward.wall,
                decode.cpu,
            )
        )
        click.echo(
            f"{images:6} {rows[-1][1]:9.2f} {ceiling:8.2f} {rows[-1][3]:6.3f} "
            + (f"{rows[-1][4]:11.3f}" if not on_gpu else "")
        )
    table = np.array(rows)
    whole = table[:, 0].sum() / (table[:, 0] / table[:, 1]).sum()
    forward_wall, decode_cpu = np.median(table[:, 5]), np.median(table[:, 6])
    click.echo(
        f"all {int(table[:, 0].sum())} images: {whole:.2f} images/s\n"
        f"ceiling's parts (medians): bare forward {1e3 * forward_wall:.2f} ms an image, decode "
        f"{1e3 * decode_cpu:.2f} ms of CPU time an image, over {cores} core(s) {1e3 * decode_cpu / cores:.2f}\n"
        f"ratio to the ceiling: min {table[:, 3].min():.3f}, median {np.median(table[:, 3]):.3f}, max {table[:, 3].max():.3f}"
        + (f"; of CPU times: median {np.median(table[:, 4]):.3f}" if not on_gpu else "")
    )
    flops = flops_of(teacher, inputs[:1])
    click.echo(f"{flops / 1e9:.1f} GFLOP an image, {flops * whole / 1e12:.3f} TFLOP/s end to end", nl=False)
    if peak_tflops:
        click.echo(f", {100 * flops * whole / 1e12 / peak_tflops:.0f} % of {peak_tflops:g} TFLOP/s", nl=False)
    bound = "the forward pass" if forward_wall > decode_cpu / cores else "decoding"
    click.echo(f"; bound by {bound}")


def whole_lot(plan: Plan, lot: Lot, teacher: LoadedTeacher, root: Path, images: int) -> Pace:
    """A lot as `griddle features` does it, the teacher being there."""
    wall, cpu = time.perf_counter(), time.process_time()
    with FeatureWriter(teacher, "teacher") as writer:
        do_lot(plan.experiment, lot, partial(writer.write, root))
    return Pace((time.perf_counter() - wall) / images, (time.process_time() - cpu) / images)


def forward_of_lot(teacher: LoadedTeacher, inputs: Tensor, threads: int) -> Pace:
    """The network alone over images that are in memory: the faster of two ways on a CPU."""
    if teacher.device.type == "cuda":
        return _forward_on_gpu(teacher, inputs)
    size = teacher.config.images_per_batch
    together = _paced(lambda: [_forward(teacher, part) for part in inputs.split(size)], len(inputs))
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        apart = _paced(
            lambda: list(pool.map(lambda one: _forward(teacher, one), inputs.split(1))), len(inputs)
        )
    torch.set_num_threads(threads)
    return min(together, apart, key=lambda pace: pace.wall)


def _forward_on_gpu(teacher: LoadedTeacher, inputs: Tensor) -> Pace:
    size = teacher.config.images_per_batch
    batch = inputs.repeat(-(-size // len(inputs)), 1, 1, 1)[:size].to(teacher.device)

    def passes() -> None:
        for _ in range(20):
            _forward(teacher, batch)
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return _paced(passes, 20 * size)


@torch.inference_mode()
def _forward(teacher: LoadedTeacher, images: Tensor) -> None:
    low = teacher.config.precision == "bfloat16"
    with torch.autocast(teacher.device.type, dtype=torch.bfloat16, enabled=low):
        teacher.read((images - teacher.mean) / teacher.std)


def decode_pace(root: Path, records: list[ImageRecord], teacher: Teacher) -> Pace:
    """From file to input in one thread, when the files are in the page cache."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pace = _paced(
        lambda: [load_input(root, r, teacher.image_size, teacher.antialias) for r in records], len(records)
    )
    torch.set_num_threads(threads)
    return pace


def flops_of(teacher: LoadedTeacher, image: Tensor) -> int:
    """Of the matrix products of one image, two for a multiplication and an addition."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _forward(teacher, image.to(teacher.device))
    return counter.get_total_flops()


def make_tree(root: Path, images: list[Path], partitions: int, scans: int) -> list[ImageRecord]:
    """A toy tree whose images are these files in turn, and a record of each of them."""
    write_toy(
        root,
        train=partitions,
        val=0,
        scans=scans,
        image=(56, 112),
        beams=2,
        azimuths=8,
        labels=False,
        processes=1,
    )
    sizes = [_size(path) for path in images]
    for tables in sorted(root.glob("v1.0-*")):
        rows = json.loads((tables / "sample_data.json").read_text())
        cameras = [row for row in rows if row["filename"].startswith("samples/CAM")]
        for number, row in enumerate(cameras):
            source, (width, height) = images[number % len(images)], sizes[number % len(images)]
            target = (root / row["filename"]).with_suffix(source.suffix)
            (root / row["filename"]).unlink(missing_ok=True)
            shutil.copyfile(source, target)
            row |= {"filename": str(target.relative_to(root)), "height": height, "width": width}
        (tables / "sample_data.json").write_text(json.dumps(rows))
    return [
        ImageRecord(
            "any",
            row["filename"],
            (root / row["filename"]).stat().st_size,
            row["height"],
            row["width"],
            (),
            (),
        )
        for row in cameras
    ]


def _config(
    root: Path,
    model: str,
    image_size: tuple[int, int],
    precision: str,
    antialias: bool,
    images_per_batch: int,
    lot_partitions: int,
) -> Config:
    return Config.model_validate(
        {
            "lot_partitions": lot_partitions,
            "datasets": {"images": {"reader": "nuscenes", "root": str(root), "version": "v1.0-trainval"}},
            "teachers": {
                "teacher": {
                    "model": model,
                    "weights": "untrained",
                    "image_size": image_size,
                    "precision": precision,
                    "antialias": antialias,
                    "images_per_batch": images_per_batch,
                }
            },
            "students": {"any": {"datasets": ["images"], "teacher": "teacher", "pretrain": {"batch": 1}}},
        }
    )


def _images(folder: str | None) -> list[Path]:
    samples = os.environ.get("GRIDDLE_SAMPLES")
    if folder is None and samples is None:
        raise click.UsageError(
            "give --images FOLDER, or set GRIDDLE_SAMPLES: decoding costs what real images cost"
        )
    found = sorted(
        path
        for path in Path(folder or f"{samples}/nuscenes/samples").rglob("*")
        if path.suffix.lower() in (".jpg", ".png")
    )
    if not found:
        raise click.UsageError(f"--images: no .jpg or .png below {folder}")
    return found


def _imports() -> float:
    """Seconds from the start of Python to where a lot could begin, once the files are in the page cache."""
    command = [
        sys.executable,
        "-c",
        "import timm, pipeline.preprocessing.features, pipeline.preprocessing.lots, stages.features",
    ]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - begun


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.size


def _paced(work: Callable[[], object], images: int) -> Pace:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Pace((time.perf_counter() - wall) / images, (time.process_time() - cpu) / images)


def _between(one: Pace, other: Pace) -> Pace:
    return Pace((one.wall + other.wall) / 2, (one.cpu + other.cpu) / 2)


if __name__ == "__main__":
    main()

"""What is packed for a machine without a devkit is enough there: recordings with their index give a cache to train from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY))  # `benchmarks` is no package that is installed

from benchmarks.gpu.packed import NUSCENES, VERSION, Packed  # noqa: E402

FOLDER = REPOSITORY / "benchmarks" / "gpu"


def test_every_wheel_is_pinned_and_needs_are_among_them() -> None:
    lines = [line for line in (FOLDER / "wheels.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+(post\d+)?", line) for line in lines), lines
    names = {line.split("==")[0] for line in lines}
    assert {"zarr", "numcodecs", "google-crc32c", "donfig", "pydantic", "pydantic-core", "dask"} <= names
    assert not names & {"torch", "numpy", "scipy", "timm"}, "these are there, in the right versions"


@pytest.mark.parametrize("script", ["pack.sh", "go.sh"])
def test_scripts_are_sound(script: str) -> None:
    subprocess.run(["bash", "-n", str(FOLDER / script)], check=True)


def test_a_folder_without_anything_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run benchmarks/gpu/pack\.sh"):
        Packed(tmp_path)


def test_steps_from_packed_recordings_need_no_devkit(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached and with the teacher in the step: of the teacher's own grids both give the same loss."""
    pytest.importorskip("nuscenes")  # the index is made with it
    from benchmarks.gpu.make_packed import copy_recordings

    copy_recordings(samples / NUSCENES, tmp_path / "packed")
    packed = Packed(tmp_path / "packed")
    assert (len(packed.scans), len(packed.images)) == (2, 12)
    assert all((packed.recordings / image.path).is_file() for image in packed.images)
    monkeypatch.setitem(sys.modules, "nuscenes", None)

    from keyframes import CHANNELS, IMAGE, Recordings, real_keyframes

    from benchmarks.gpu.pace import pace
    from benchmarks.gpu.whole_steps import OnlineSteps, Trainee, grids_of, untrained, variant
    from pipeline.streaming.view_batches import stream
    from pipeline.teachers.loaded import load_teacher

    recordings = Recordings(NUSCENES, packed.recordings, VERSION, packed.index(NUSCENES))
    cache = real_keyframes(
        tmp_path / "cache", 1, batch=2, recordings=recordings, teacher="dinov2_vits14", storages=("float16",)
    )
    run = variant(cache.runs["float16"], 2, "float32", width=8, depth=3)
    cached, cpu = cache.steps(), torch.device("cpu")
    steps = OnlineSteps(cached, packed.recordings, cache.scans, 8, IMAGE)
    row = pace(
        stream(cached, 0, 100, 0, pin=False), Trainee(run, CHANNELS["dinov2_vits14"], cpu).cached, 2, cpu, 0.1
    )
    assert row["samples_per_s"] > 0

    batch = steps[0]
    for draw, picture in zip(batch.points.draws, batch.images, strict=True):
        scan, camera = divmod(draw.view, 6)
        assert cache.scans[scan].name == draw.scan.name
        assert torch.equal(picture, steps._image(0, 6 * (scan % 2) + camera)), "two keyframes, in turn"
    teacher = load_teacher(untrained(cache.plan.experiment.config.teachers["float16"], "float32"), cpu)
    assert grids_of(teacher, batch.images).shape == batch.points.targets[0].values.shape
    loss = Trainee(run, CHANNELS["dinov2_vits14"], cpu).online(teacher)(batch, 0)
    assert 0.5 < loss < 2.0

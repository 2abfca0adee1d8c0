"""What is packed for a machine without a devkit is enough there: recordings with their index give a cache to train from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY))  # `benchmarks` is no package that is installed

from benchmarks.gpu.packed import NUSCENES, VERSION, Packed  # noqa: E402
from benchmarks.gpu.wheels import THERE, lacking  # noqa: E402

FOLDER = REPOSITORY / "benchmarks" / "gpu"


def test_every_wheel_is_pinned() -> None:
    lines = [line for line in (FOLDER / "wheels.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+(post\d+)?", line) for line in lines), lines
    names = {line.split("==")[0] for line in lines}
    assert {"zarr", "numcodecs", "pydantic", "dask", "click"} <= names
    assert not names & THERE, "these are there, in the right versions"


def test_what_a_wheel_needs_must_be_packed(tmp_path: Path) -> None:
    def wheel(name: str, version: str, *needs: str) -> None:
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        with zipfile.ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as file:
            file.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))

    wheel("zarr", "3.1", "Google_crc32c>=1.5", "numpy>=2", "numcodecs>=0.14", 'fsspec; extra == "remote"')
    wheel("google-crc32c", "1.9")
    wheel("numcodecs", "0.13", 'importlib-metadata; python_version < "3.10"')
    assert list(lacking(tmp_path)) == ["zarr 3.1 needs numcodecs>=0.14, and the wheel is 0.13"]
    wheel("dask", "1.0", "toolz>=1")
    assert next(iter(lacking(tmp_path))) == "dask 1.0 needs toolz>=1, which is not among the wheels"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("nothing", "holds nothing that pack.sh made"),
        ("changed", "is not as it was packed"),
        ("lost", "is not as it was packed"),
        ("python", "the packed wheels are for Python 3.12"),
    ],
)
def test_a_folder_that_is_not_whole_is_not_run(tmp_path: Path, broken: str, told: str) -> None:
    checkout = tmp_path / "a checkout"
    packed = checkout / "build" / "gpu"
    (packed / "wheels").mkdir(parents=True)
    (checkout / "benchmarks" / "gpu").mkdir(parents=True)
    shutil.copy(FOLDER / "go.sh", checkout / "benchmarks" / "gpu")
    if broken != "nothing":
        (packed / "wheels" / "a.whl").write_bytes(b"wheel")
        (packed / "SHA256SUMS").write_text(f"{hashlib.sha256(b'wheel').hexdigest()}  ./wheels/a.whl\n")
    if broken == "changed":
        (packed / "wheels" / "a.whl").write_bytes(b"wheeL")
    if broken == "lost":
        (packed / "wheels" / "a.whl").unlink()
    done = subprocess.run(
        ["benchmarks/gpu/go.sh"],
        cwd=checkout,
        env={**os.environ, "PYTHON": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert not (packed / "packages").exists()


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

"""A job of the features stage stays within the memory that its rule declares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config.model import Teacher
from pipeline.plan.cost import teacher_memory as memory
from pipeline.preprocessing import features
from pipeline.teachers import flow

LARGE = {"model": "dinov2_vitl14", "weights": "untrained", "image_size": (224, 448)}

WRITE_MUCH = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
from PIL import Image
from pipeline.config.model import Teacher
from pipeline.datasets.records import ImageRecord, PartitionRecord, ScanRecord
from pipeline.preprocessing.features import FeatureWriter
from pipeline.preprocessing.target import Target
from pipeline.plan.parts import Store

root, images = Path(sys.argv[1]), 258
torch.set_num_threads(4)
Image.new("RGB", (320, 180), (90, 120, 30)).save(root / "a.jpg")
grid = np.random.default_rng(0).normal(size=(1, 16, 32, 1024)).astype(np.float32)
config = Teacher.model_validate({"model": "dinov2_vitl14", "weights": "untrained", "image_size": (224, 448)})
teacher = SimpleNamespace(config=config, device=torch.device("cpu"), grid=(16, 32), channels=1024, patch=14,
                          weights_digest="", licence="", features=lambda x: grid + x.mean().item())
record = ImageRecord("CAM", "a.jpg", (root / "a.jpg").stat().st_size, 180, 320, (1.0,) * 9, ())
scan = ScanRecord("s", "s", "s", 1, None, None, (record,) * images)
store = Store("features", "d", "features", {}, None, "")
with FeatureWriter(teacher, "t") as writer:
    records = [PartitionRecord(f"p{i}", "train", (scan,)) for i in range(2)]
    promises = [writer.write(root, Target(store, record, "m", root)) for record in records]
    assert all(p.result().bytes > images * 2**20 for p in promises)
# Not ru_maxrss: that begins with what the process had that started this one.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_the_counts_are_those_of_the_code() -> None:
    assert memory.PARTITIONS == features.IN_FLIGHT
    assert memory.GPU_LANES == flow.GPU_LANES


def test_larger_teachers_batches_and_images_ask_for_more() -> None:
    plain = memory.features_mem_mb(Teacher.model_validate(LARGE), 4)
    for more in ({"model": "dinov2_vitg14"}, {"image_size": (448, 896)}, {"images_per_batch": 64}):
        assert memory.features_mem_mb(Teacher.model_validate({**LARGE, **more}), 4) > plain
    assert memory.features_mem_mb(Teacher.model_validate(LARGE), 16) > plain
    assert 6000 < plain < 16000


@pytest.mark.whole
def test_partitions_larger_than_a_shard_stay_within_what_is_declared(tmp_path: Path) -> None:
    """All but the network: images decoded, grids encoded, two partitions of 270 MB written at once."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE_MUCH, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    teacher = Teacher.model_validate(LARGE)
    weights = memory.COPIES_OF_WEIGHTS * 4 * memory.millions_of_weights(teacher.model)
    measured = int(done.stdout)
    assert 1200 < measured < memory.features_mem_mb(teacher, 4) - weights


@pytest.mark.slow
def test_a_whole_job_with_a_real_network_stays_within_what_is_declared(samples: Path, tmp_path: Path) -> None:
    config = {
        "datasets": {
            "n": {"reader": "nuscenes", "root": str(samples / "nuscenes"), "version": "v1.0-trainval"}
        },
        "teachers": {"t": {**LARGE, "image_size": [224, 448]}},
        "students": {"s": {"datasets": ["n"], "teacher": "t", "pretrain": {"batch": 1}}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    for stage in (["index"], ["features", "--threads", "2"]):
        command = [sys.executable, "-m", "stages.cli", stage[0], "-c", str(tmp_path / "c.yaml")]
        process = subprocess.Popen([*command, "--workdir", str(tmp_path / "w"), *stage[1:]])
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
    measured = usage.ru_maxrss // 1024
    print(f"measured {measured} MB")
    assert 1000 < measured < memory.features_mem_mb(Teacher.model_validate(LARGE), 2)

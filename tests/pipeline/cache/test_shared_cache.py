"""Two people of one group fill one cache: a folder with the group's bit set, and umask 002, is all that it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

GROUP, FIRST, SECOND = 54321, 54322, 54323

COMPUTE = """
import os
import sys
import tempfile
from pathlib import Path
import numpy as np
from cache_schemas.features import features_schema
from cache_schemas.writing import PartitionWriter
from pipeline.teachers.weights_lock import check_weights

def compute(cache, partition, teacher):
    check_weights(cache, cache, teacher, "digest")
    attributes = {"images": ["a.jpg"], "unreadable": [], "teacher": {}, "licence": "", "image_size": [14, 14], "patch": 14}
    with PartitionWriter(
        cache / "features" / "vit" / "toy",
        features_schema("float16"),
        partition=partition,
        member_digest="00",
        identity={"storage": "float16"},
        attributes=attributes,
    ) as writer:
        writer.put("features", np.ones((1, 1, 1, 2), np.float16))
        writer.publish(counts={"images": 1}, left_out=[])

cache, group, *people = sys.argv[1:]
with tempfile.TemporaryDirectory() as elsewhere:
    compute(Path(elsewhere), "all-modules", "loaded")  # Python itself may lie where others cannot read
for person in people:
    user, partition, teacher = person.split()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
        os.umask(0o002)
        compute(Path(cache), partition, teacher)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, person
"""


@pytest.fixture
def cache() -> Iterator[Path]:
    """A folder that belongs to the group, where each of its members may reach it."""
    if os.geteuid() != 0:
        pytest.skip("two people are needed: only root can play them")
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    shared = top / "cache"
    shared.mkdir()
    os.chown(shared, 0, GROUP)
    shared.chmod(0o2775)
    yield shared
    shutil.rmtree(top)


def test_both_compute_into_one_store(cache: Path) -> None:
    people = (f"{FIRST} scene-1 a", f"{SECOND} scene-2 b", f"{SECOND} scene-1 a")
    command = [sys.executable, "-c", COMPUTE, str(cache), str(GROUP), *people]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = cache / "features" / "vit" / "toy"
    assert sorted(path.name for path in store.glob("*.json")) == ["scene-1.00.json", "scene-2.00.json"]
    owners = {path.stat().st_uid for path in store.rglob("*")}
    assert owners == {FIRST, SECOND}
    assert {path.stat().st_gid for path in store.rglob("*")} == {GROUP}
    assert (cache / "weights.lock.json").read_text().count("digest") == 2
    assert not list(cache.rglob(".writing*"))

"""The scans and views stages stay within the memory that their rules declare, at the size of real partitions."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SCANS_OF_A_SCENE = 41
"""The most keyframes that a scene of nuScenes has."""

COMPUTE = """
import json, sys
from dataclasses import replace
from pathlib import Path
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS
from pipeline.config.load import load_config
from pipeline.datasets.nuscenes.reader import READER
from pipeline.datasets.index import make_index
from pipeline.plan.plan import Plan, plan_experiment
from pipeline.preprocessing.scans import write_scans
from pipeline.preprocessing.target import Target
from pipeline.preprocessing.views import write_views

def peak():
    # Not ru_maxrss: that begins with what the process had that started this one.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1])

config, folder, count = load_config(Path("tests/support/keyframes.yaml")), Path(sys.argv[1]), int(sys.argv[2])
dataset = config.datasets["nuscenes"]
make_index(folder, "nuscenes", dataset)
plan = plan_experiment(config, folder)
stores = {stage: plan.lots(stage)[0].store for stage in ("scans", "views")}
index = plan.experiment.indices["nuscenes"]
record = index.load_partition(index.partitions[0])
(scan,) = record.scans
record = replace(record, scans=tuple(replace(scan, name=f"scan-{n}") for n in range(count)))
peaks = []
at = {stage: plan.experiment.store_path(store) for stage, store in stores.items()}
write_scans(Target(stores["scans"], record, "0", at["scans"]), READER, Path(dataset.root))
peaks.append(peak())
scans = PartitionReader(at["scans"], SCANS, record.name, "0")
rule, points = READER.traits.published_mask, stores["views"].source
write_views(Target(stores["views"], record, "0", at["views"]), scans, points, READER.traits.cameras, rule, "scan")
peaks.append(peak())
print(json.dumps([peak / 1024 for peak in peaks]))
"""


def peaks_of(folder: Path, scans: int) -> list[float]:
    """Peak resident MB of the scans stage, and of both stages in one process, for a partition of so many scans."""
    command = [sys.executable, "-c", COMPUTE, str(folder), str(scans)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def declared(rule: str) -> float:
    """The `mem_mb` of a rule of the Snakefile."""
    body = (REPOSITORY / "Snakefile").read_text().split(f"\nrule {rule}:")[1].split("\nrule ")[0]
    found = re.search(r"mem_mb=(\d+)", body)
    assert found
    return float(found[1])


@pytest.mark.whole
def test_memory_grows_so_slowly_that_a_scene_fits(samples: Path, tmp_path: Path) -> None:
    """Two sizes give the growth by scan; the slow test computes a whole scene."""
    small, large = (peaks_of(tmp_path / str(count), count) for count in (1, 5))
    for rule, one, five in zip(("scans", "views"), small, large, strict=True):
        scene = five + (five - one) / 4 * SCANS_OF_A_SCENE
        assert one < scene < declared(rule), f"{rule}: {one:.0f} MB for 1 scan, {five:.0f} for 5"


@pytest.mark.slow
def test_a_scene_fits(samples: Path, tmp_path: Path) -> None:
    for rule, peak in zip(("scans", "views"), peaks_of(tmp_path / "scene", SCANS_OF_A_SCENE), strict=True):
        print(f"{rule}: {peak:.0f} MB at most, {declared(rule):.0f} declared")
        assert peak < declared(rule)

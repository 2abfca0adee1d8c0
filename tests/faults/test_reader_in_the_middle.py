"""Who reads a partition while it is published anew sees the old one or the new one, never some of each."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

from cache_schemas.checked_store import CheckedStore
from cache_schemas.manifest import manifest_path
from cache_schemas.reading import PartitionReader
from cache_schemas.scans import SCANS

REPOSITORY = Path(__file__).resolve().parents[2]
MEMBER = "0123456789"

WRITER = """
import sys
from pathlib import Path
import numpy as np
from cache_schemas.scans import SCANS
from cache_schemas.writing import PartitionWriter

for number in range(int(sys.argv[2])):
    version = number % 3
    rows = 100 + version
    with PartitionWriter(Path(sys.argv[1]), SCANS, partition="scene-1", member_digest="0123456789", identity={},
                         attributes={"frame": str(version), "scans": ["a"]}) as writer:
        writer.put("scan_offsets", np.array([0, rows], np.uint64))
        writer.put("xyz", np.full((rows, 3), version, np.float32))
        writer.put("intensity", np.full(rows, version, np.float32))
        writer.publish(counts={"scans": 1, "points": rows}, left_out=[])
    print(number, flush=True)
"""


def one_version(values: dict[str, np.ndarray], version: int) -> bool:
    rows = 100 + version
    return (
        values["scan_offsets"].tolist() == [0, rows]
        and values["xyz"].shape == (rows, 3)
        and len(values["intensity"]) == rows
        and all((values[name] == version).all() for name in ("xyz", "intensity"))
    )


def test_old_or_new_but_no_mixture(tmp_path: Path) -> None:
    import zarr

    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(count)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in (14, 16)
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    seen: list[int] = []
    while any(writer.poll() is None for writer in writers):
        reader = PartitionReader(tmp_path, SCANS, "scene-1", MEMBER)
        version = int(reader.attributes["frame"])
        assert one_version({s.name: reader.read(s.name) for s in SCANS.arrays}, version)
        seen.append(version)
        group = zarr.open_group(CheckedStore(manifest_path(tmp_path, "scene-1", MEMBER)), mode="r")
        version = int(group.attrs["frame"])  # type: ignore[arg-type]
        assert one_version({s.name: np.asarray(group[s.name]) for s in SCANS.arrays}, version)
        seen.append(version)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert set(seen) == {0, 1, 2}
    assert sum(a != b for a, b in itertools.pairwise(seen)) > 5
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 1 + 2 * 3  # one manifest; each version once, until `gc`
    assert not [name for name in names if name.startswith(".") or "damaged" in name]

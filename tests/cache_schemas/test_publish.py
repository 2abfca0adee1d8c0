"""Publishing: whole or not at all, by as many writers at once and as often as anyone likes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schemas import publish
from cache_schemas.errors import CannotWrite
from cache_schemas.features import features_schema
from cache_schemas.manifest import Manifest, is_valid, open_partition
from cache_schemas.publish import write_bytes, write_json
from cache_schemas.reading import PartitionReader
from cache_schemas.writing import PartitionWriter

SCHEMA = features_schema("float16")
MEMBER = "0123456789"
REPOSITORY = Path(__file__).resolve().parents[2]


def values_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 2, 2, 4)).astype(np.float16)


def writer_of(folder: Path, partition: str = "scene-1", member: str = MEMBER) -> PartitionWriter:
    return PartitionWriter(
        folder,
        SCHEMA,
        partition=partition,
        member_digest=member,
        identity={},
        attributes=dict.fromkeys(SCHEMA.attributes, 0),
    )


def write(folder: Path, seed: int = 0, member: str = MEMBER) -> Manifest:
    with writer_of(folder, member=member) as writer:
        writer.put("features", values_of(seed))
        return writer.publish(counts={"images": 3}, left_out=[])


def read(folder: Path, member: str = MEMBER) -> np.ndarray:
    return PartitionReader(folder, SCHEMA, "scene-1", member).read("features")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def published_names(manifest: Manifest) -> list[str]:
    return sorted([manifest.path.name, manifest.sidecar.name, manifest.store.name])


def test_publishing_twice_leaves_one_copy(tmp_path: Path) -> None:
    first = write(tmp_path)
    inode = first.store.stat().st_ino
    second = write(tmp_path)
    assert second.content_digest == first.content_digest
    assert first.store.stat().st_ino == inode  # its own content was there already: the new copy went
    assert names_in(tmp_path) == published_names(first)
    np.testing.assert_array_equal(read(tmp_path), values_of())


RACER = """
import sys, time
from pathlib import Path
import numpy as np
from cache_schemas.features import features_schema
from cache_schemas.writing import PartitionWriter

folder, me, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
schema = features_schema("float16")
values = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float16)
for number in range(rounds):
    with PartitionWriter(folder / str(number), schema, partition="scene-1", member_digest="0123456789",
                         identity={}, attributes=dict.fromkeys(schema.attributes, 0)) as writer:
        writer.put("features", values)
        (folder / f"ready-{number}-{me}").touch()
        deadline = time.monotonic() + 20
        while len(list(folder.glob(f"ready-{number}-*"))) < 2:
            if time.monotonic() > deadline:
                sys.exit("the other one did not come")
            time.sleep(0.0001)
        writer.publish(counts={"images": 3}, left_out=[])
"""


def run_beside(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("damaged_before", [False, True])
def test_two_processes_that_publish_the_same_at_once_both_succeed(
    damaged_before: bool, tmp_path: Path
) -> None:
    rounds = 5
    for number in range(rounds if damaged_before else 0):
        (shard,) = (p for p in (write(tmp_path / str(number)).store / "features/c").rglob("*") if p.is_file())
        shard.write_bytes(b"cut")
    racers = [run_beside(RACER, str(tmp_path), me, str(rounds)) for me in ("a", "b")]
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], errors
    for number in range(rounds):
        folder = tmp_path / str(number)
        manifest = open_partition(folder, "scene-1", MEMBER)
        aside = [name for name in names_in(folder) if ".damaged-" in name]
        assert sorted({*names_in(folder)} - {*aside}) == published_names(manifest)
        assert bool(aside) == damaged_before
        np.testing.assert_array_equal(read(folder), values_of())


def test_another_writer_that_sets_damaged_content_aside_while_it_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write(tmp_path)
    scandir, aside = os.scandir, tmp_path / "set-aside"

    def scandir_too_late(path: Any) -> Any:
        if str(path) == str(manifest.store / "features") and not aside.exists():
            manifest.store.rename(aside)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_too_late)
    write(tmp_path)
    monkeypatch.undo()
    assert aside.exists()
    assert names_in(tmp_path) == sorted([*published_names(manifest), aside.name])
    np.testing.assert_array_equal(read(tmp_path), values_of())


@pytest.mark.parametrize("damage", ["cut", "flipped", "one file more", "one file less"])
def test_damaged_content_of_the_same_name_is_set_aside_and_replaced(damage: str, tmp_path: Path) -> None:
    manifest = write(tmp_path)
    (shard,) = (p for p in (manifest.store / "features/c").rglob("*") if p.is_file())
    data = shard.read_bytes()
    if damage == "one file less":
        shard.unlink()
    elif damage == "one file more":
        (manifest.store / "features/c/9").write_bytes(data)
    else:
        shard.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    assert write(tmp_path).content_digest == manifest.content_digest
    (aside,) = (name for name in names_in(tmp_path) if ".damaged-" in name)
    assert aside.startswith(manifest.store.name)
    assert sorted({*names_in(tmp_path)} - {aside}) == published_names(manifest)
    np.testing.assert_array_equal(read(tmp_path), values_of())


@pytest.mark.parametrize("lost", ["manifest", "sidecar", "both"])
def test_what_a_killed_writer_did_not_get_to_is_added(lost: str, tmp_path: Path) -> None:
    manifest = write(tmp_path)
    if lost != "sidecar":
        manifest.path.unlink()
    if lost != "manifest":
        manifest.sidecar.unlink()
    assert not is_valid(tmp_path, "scene-1", MEMBER)
    write(tmp_path)
    assert names_in(tmp_path) == published_names(manifest)
    np.testing.assert_array_equal(read(tmp_path), values_of())


@pytest.mark.parametrize("there_before", [False, True])
def test_an_exception_inside_the_writer_leaves_nothing(there_before: bool, tmp_path: Path) -> None:
    before = published_names(write(tmp_path)) if there_before else []

    def fail() -> None:
        with writer_of(tmp_path) as writer:
            writer.put("features", values_of(1))
            raise KeyError("teacher")

    with pytest.raises(KeyError, match="teacher"):
        fail()
    assert names_in(tmp_path) == before
    if there_before:
        np.testing.assert_array_equal(read(tmp_path), values_of())


def test_a_full_disk_while_publishing_leaves_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="No space left"):
        write(tmp_path, seed=1)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names_in(tmp_path) == published_names(first)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from cache_schemas.features import features_schema
from cache_schemas.writing import PartitionWriter

schema = features_schema("float16")
with PartitionWriter(Path(sys.argv[1]), schema, partition="scene-1", member_digest="0123456789",
                     identity={}, attributes=dict.fromkeys(schema.attributes, 0)) as writer:
    writer.put("features", np.ones((3, 2, 2, 4), np.float16))
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_swept_by_the_next_writer(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    (left,) = names_in(tmp_path)
    assert left.startswith(publish.WRITING)
    with writer_of(tmp_path):
        assert left in names_in(tmp_path)  # it is alive: its work is its own
    process.send_signal(signal.SIGKILL)
    process.communicate()
    manifest = write(tmp_path)
    assert names_in(tmp_path) == published_names(manifest)


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_leftovers_of_this_host_and_this_partition_are_swept(tmp_path: Path, dead_pid: int) -> None:
    here = socket.gethostname()
    kept = [
        f".writing-scene-1-{here}-{os.getpid()}-00000000",
        f".writing-scene-1-elsewhere-{dead_pid}-00000000",
        f".writing-scene-12-{here}-{dead_pid}-00000000",
    ]
    for name in (*kept, f".writing-scene-1-{here}-{dead_pid}-00000000"):
        (tmp_path / name / "zarr").mkdir(parents=True)
    with writer_of(tmp_path) as writer:
        assert sorted(name for name in names_in(tmp_path) if name != writer._folder.name) == sorted(kept)


@pytest.mark.parametrize(
    "left",
    [".writing-scene-1.0123456789.json-{}", ".writing-removed-.writing-scene-1-{}-{}"],
    ids=["file", "being removed"],
)
def test_half_written_files_and_half_removed_folders_of_a_dead_process_are_swept(
    left: str, tmp_path: Path, dead_pid: int
) -> None:
    signature = f"{socket.gethostname()}-{dead_pid}-00000000"
    (tmp_path / left.format(signature, signature)).touch()
    manifest = write(tmp_path)
    assert names_in(tmp_path) == published_names(manifest)


def test_a_new_member_version_lies_beside_the_old_one(tmp_path: Path) -> None:
    old, new = write(tmp_path, seed=0, member="aaaaaaaaaa"), write(tmp_path, seed=1, member="bbbbbbbbbb")
    assert names_in(tmp_path) == sorted(published_names(old) + published_names(new))
    np.testing.assert_array_equal(read(tmp_path, "aaaaaaaaaa"), values_of(0))
    np.testing.assert_array_equal(read(tmp_path, "bbbbbbbbbb"), values_of(1))


def test_two_member_versions_of_one_content_share_it(tmp_path: Path) -> None:
    old, new = write(tmp_path, member="aaaaaaaaaa"), write(tmp_path, member="bbbbbbbbbb")
    assert old.store == new.store
    assert names_in(tmp_path) == sorted({*published_names(old), *published_names(new)})
    np.testing.assert_array_equal(read(tmp_path, "aaaaaaaaaa"), read(tmp_path, "bbbbbbbbbb"))


def fail_in(name: str) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(28, f"No space left on device, in {name}")

    return fail


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_json_file_is_the_old_one_when_writing_the_new_one_fails(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "done.json"
    write_json(path, {"step": 1})
    old = path.read_bytes()
    monkeypatch.setattr(os, broken, fail_in(broken))
    with pytest.raises(OSError, match=broken):
        write_json(path, {"step": 2, "more": "x" * 10_000})
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert names_in(tmp_path) == ["done.json"]


def test_values_without_a_json_spelling_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf"), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a.json", {"value": value})
    assert names_in(tmp_path) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from cache_schemas.publish import write_bytes

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_bytes(Path(sys.argv[1]), b"x" * 5000)
"""


def test_a_write_that_the_system_cuts_off_midway(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_bytes(path, b"old")
    process = run_beside(LIMITED, str(path))
    error = process.communicate(timeout=60)[1]
    assert "File too large" in error
    assert process.returncode == 1
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["weights"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"value": 0})
    writer = run_beside(
        "import sys; from pathlib import Path; from cache_schemas.publish import write_json\n"
        "for n in range(150): write_json(Path(sys.argv[1]), {'value': n, 'filling': 'x' * 20_000})",
        str(path),
    )
    seen = set()
    while writer.poll() is None:
        data = path.read_bytes()
        assert data.endswith(b"}\n")
        seen.add(len(data))
        time.sleep(0.0005)
    assert writer.wait() == 0
    assert len(seen) > 1

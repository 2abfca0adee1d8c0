"""A file that may not be read is no damaged file: an error that names it, exit code 1, and nothing is removed.

`pytest -m slow -s tests/faults/test_access.py` tries every file of the cache with every error, and prints the counts.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cache_schemas.access import no_access
from cache_schemas.checked_store import CheckedStore
from cache_schemas.errors import GriddleError, NoAccess
from cache_schemas.manifest import is_valid, read_manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.stores import schema_of
from pipeline.training import checkpoint
from pipeline.training.weights_folder import is_complete, read_tensors, save_weights, write_provenance

REPOSITORY = Path(__file__).resolve().parents[2]
REFUSALS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ELOOP, errno.EMFILE)
Tree = Callable[[Path], dict[str, bytes]]


@contextmanager
def refused(path: Path, number: int, when: tuple[str, ...] = ("open", "stat", "list")) -> Iterator[None]:
    """The system refuses a path, and all below it, with an error. `root` may read everything, so the calls are replaced."""
    wanted = str(path.resolve())

    def refusing(call: Any) -> Any:
        def refuse(target: Any = ".", *given: Any, **named: Any) -> Any:
            if isinstance(target, str | os.PathLike):
                asked = os.path.abspath(target)
                if asked == wanted or asked.startswith(f"{wanted}/"):
                    raise OSError(number, os.strerror(number), os.fspath(target))
            return call(target, *given, **named)

        return refuse

    calls = {"open": [(builtins, "open"), (io, "open"), (os, "open")], "stat": [(os, "stat")]}
    calls["list"] = [(os, "listdir"), (os, "scandir")]
    with pytest.MonkeyPatch.context() as patch:
        for name in when:
            for module, call in calls[name]:
                patch.setattr(module, call, refusing(getattr(module, call)))
        yield


def files_of(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def read_all(manifest: Path) -> None:
    """All readers of one partition, one after the other."""
    partition, member, _ = manifest.name.rsplit(".", 2)
    is_valid(manifest.parent, partition, member)
    schema = schema_of(read_manifest(manifest))
    store = CheckedStore(manifest)
    for name in store.manifest.body["files"]:
        store.read(name)
    reader = PartitionReader(manifest.parent, schema, partition, member)
    for spec in schema.arrays:
        reader.read(spec.name)


def try_file(filled: Any, path: Path, number: int, capfd: Any, tree_of: Tree, when: tuple[str, ...]) -> str:
    """`fine`, or what was wrong."""
    before = tree_of(filled.cache)
    capfd.readouterr()
    with refused(path, number, when):
        code = filled.griddle("cache", "verify", "--repair")
    said = "".join(capfd.readouterr())
    if tree_of(filled.cache) != before:
        return "silent: something was removed"
    if code != 1 or path.name not in said or os.strerror(number) not in said or "Traceback" in said:
        return f"unclear: verify ended with {code}: {said[-300:]}"
    owner = path
    while not list(owner.parent.glob("*.json")) or owner.parent.suffix == ".zarr" or ".zarr/" in str(owner):
        owner = owner.parent
    for manifest in sorted(owner.parent.glob(f"{owner.name.split('.')[0]}.*.json")):
        try:
            with refused(path, number, when):
                read_all(manifest)
        except NoAccess as error:
            if str(path) not in str(error):
                return f"unclear: {error}"
        except GriddleError as error:
            return f"silent: taken for damage: {error}"
        else:
            return "silent: read all the same"
    return "fine"


def sweep(
    filled: Any, capfd: Any, tree_of: Tree, cases: list[tuple[Path, int, tuple[str, ...]]]
) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for path, number, when in cases:
        outcome = try_file(filled, path, number, capfd, tree_of, when)
        outcomes[outcome.split(":")[0]] += 1
        assert outcome == "fine", (path, errno.errorcode[number], when, outcome)
    return outcomes


WAYS = (("open",), ("open", "stat", "list"))


def test_a_file_that_may_not_be_read_is_left_as_it_is(filled: Any, capfd: Any, tree_of: Tree) -> None:
    rng = random.Random(0)
    files = [path for path in files_of(filled.cache) if "views" in path.parts or "features" in path.parts]
    kinds = {
        "manifest": [p for p in files if p.suffix == ".json" and p.name != "zarr.json"],
        "sidecar": [p for p in files if p.suffix == ".crc"],
        "metadata": [p for p in files if p.name == "zarr.json"],
        "shard": [p for p in files if "c" in p.parts],
    }
    cases = [
        (rng.choice(paths), REFUSALS[(number + place) % len(REFUSALS)], WAYS[number % 2])
        for place, paths in enumerate(kinds.values())
        for number in range(2)
    ]
    sweep(filled, capfd, tree_of, cases)


@pytest.mark.slow
def test_every_file_and_every_refusal(filled: Any, capfd: Any, tree_of: Tree) -> None:
    cases = [(path, number, when) for path in files_of(filled.cache) for number in REFUSALS for when in WAYS]
    counts = sweep(filled, capfd, tree_of, cases)
    with capfd.disabled():
        print(f"\nno access | {counts.total()} | {counts['silent']} | {counts['unclear']} | {counts['fine']}")


@pytest.mark.parametrize("number", REFUSALS)
def test_a_folder_that_may_not_be_listed(filled: Any, capfd: Any, tree_of: Tree, number: int) -> None:
    before = tree_of(filled.cache)
    for folder in (
        filled.cache / "views",
        next(filled.cache.glob("features/*")),
        next(filled.cache.glob("views/*")),
    ):
        capfd.readouterr()
        with refused(folder, number):
            assert filled.griddle("cache", "verify", "--repair") == 1
        said = "".join(capfd.readouterr())
        assert folder.name in said
        assert os.strerror(number) in said
        with refused(folder, number):
            assert filled.griddle("cache", "gc", "--delete", "--older-than", "-1") == 1
    assert tree_of(filled.cache) == before


def test_a_stage_computes_nothing_in_place_of_what_may_not_be_read(
    filled: Any, capfd: Any, tree_of: Tree
) -> None:
    before = tree_of(filled.cache)
    manifest = next(filled.cache.glob("views/*/*.json"))
    shard = next(filled.cache.glob("views/*/*.zarr/depth/c/0"))
    for path in (manifest, shard, shard.parents[2]):
        capfd.readouterr()
        with refused(path, errno.ESTALE):
            assert filled.griddle("views") == 1
        said = capfd.readouterr().err
        assert path.name in said
        assert os.strerror(errno.ESTALE) in said
    assert tree_of(filled.cache) == before


def test_a_circle_of_links(filled: Any, capfd: Any) -> None:
    shard = next(filled.cache.glob("views/*/*.zarr/depth/c/0"))
    aside = shard.with_name("aside")
    for path in (shard, next(filled.cache.glob("views/*/*.json"))):
        os.rename(path, aside)
        path.symlink_to(path.name)
        capfd.readouterr()
        for command in (("cache", "verify", "--repair"), ("views",)):
            assert filled.griddle(*command) == 1
            said = "".join(capfd.readouterr())
            assert path.name in said
            assert os.strerror(errno.ELOOP) in said
        assert path.is_symlink()
        os.replace(aside, path)
    assert filled.griddle("cache", "verify") == 0


def test_a_named_pipe_in_place_of_a_file_does_not_hang(filled: Any) -> None:
    manifest = next(filled.cache.glob("views/*/*.json"))
    manifest.unlink()
    os.mkfifo(manifest)
    assert filled.griddle("cache", "verify") == 1


AS_SOMEBODY = """
import os, sys
import scipy.spatial, zarr
import pipeline.datasets.nuscenes.reader, pipeline.cache.verify, pipeline.plan.plan, stages.cache
from stages.cli import main
os.setgid(65534), os.setuid(65534)
main(sys.argv[1:])
"""


def test_a_file_of_somebody_elses(filled: Any, tree_of: Tree) -> None:
    """The system itself refuses: chmod 000, and a user who is not root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to run as another user")
    for path in (filled.folder, *filled.folder.parents):
        with suppress(OSError):
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
    for path in filled.folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o777)
    before = tree_of(filled.cache)
    shard = next(filled.cache.glob("views/*/*.zarr/depth/c/0"))
    shard.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY, "cache", "verify", "--repair", "--config", "config/tiny.yaml"],
        cwd=filled.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"{shard.relative_to(filled.folder)} cannot be reached: Permission denied" in done.stdout
    assert "Traceback" not in done.stderr
    assert tree_of(filled.cache) == before


def test_a_checkpoint_that_may_not_be_read_is_not_set_aside(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, checkpoint.Checkpoint("run", 1, {}, {}))
    with refused(path, errno.EIO), pytest.raises(NoAccess, match=path.name):
        checkpoint.load_newest(tmp_path, "run")
    assert checkpoint.load_newest(tmp_path, "run") is not None


def test_a_run_that_may_not_be_read_is_not_trained_anew(tmp_path: Path) -> None:
    save_weights(tmp_path, {"a": torch.zeros(2)}, {})
    write_provenance(tmp_path, "run", {}, {})
    assert is_complete(tmp_path, "run")
    for name in ("weights.safetensors", "provenance.json"):
        with refused(tmp_path / name, errno.ESTALE), pytest.raises(NoAccess, match=name):
            is_complete(tmp_path, "run")
        with refused(tmp_path / name, errno.ESTALE), pytest.raises(NoAccess, match=name):
            read_tensors(tmp_path)


def test_what_is_damage() -> None:
    assert no_access(FileNotFoundError(errno.ENOENT, "gone", "a"), "a") is None
    assert no_access(OSError(errno.EINVAL, "before the beginning", "a"), "a") is None
    assert isinstance(no_access(OSError(errno.EIO, "broken", "a"), "a"), NoAccess)

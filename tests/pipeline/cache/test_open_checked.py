"""What `open_cache` gives out is of the partition and the store that it is asked for, and as it was written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import griddle
import pipeline.cache.shard_rows
from cache_schemas.canonical import digest
from cache_schemas.errors import DamagedCache
from pipeline.cache.verify import verify_cache


def manifest_of(made: Any, partition: str) -> Path:
    (path,) = made.path.glob(f"features/{made.teacher}/*/{partition}.*.json")
    return path


def refused(read: Any, *words: str) -> None:
    with pytest.raises(DamagedCache) as refusal:
        read()
    missing = [
        word for word in (*words, "run the same snakemake command again") if word not in str(refusal.value)
    ]
    assert not missing, f"{missing}: {refusal.value}"


def same_as_verify(made: Any, *words: str) -> None:
    """`griddle cache verify` names the same."""
    said = "\n".join(map(str, verify_cache(made.path, None, [made.path / "features"], threads=1).problems))
    assert [word for word in words if word not in said] == [], said


def test_metadata_that_changes_after_the_opening_is_not_given_out(made: Any) -> None:
    """Names of images are read when they are asked for: from bytes that are checked then."""
    store = griddle.open_cache(made.path).features()
    reader = store.partition("scene-1")
    assert reader.attributes["images"][0] == made.images[0]
    group = reader.manifest.store / "zarr.json"
    group.write_text(group.read_text().replace("scene-1-0.jpg", "scene-1-9.jpg"))
    refused(lambda: reader.attributes, str(group), "sha256")
    refused(lambda: store.images, str(group))


def test_the_shape_of_an_array_is_the_checked_one(made: Any) -> None:
    store = griddle.open_cache(made.path).features()
    path = store.partition("scene-1").manifest.store / "features" / "zarr.json"
    text = path.read_text()
    path.write_text(text.replace("\n    5,\n", "\n    4,\n", 1))  # images
    # Of the bytes that were checked when it was opened:
    assert store.array("features", "scene-1").shape[0] == 5
    pipeline.cache.shard_rows._reader.cache_clear()
    refused(lambda: griddle.open_cache(made.path).features().array("features"), str(path), "sha256")


def test_a_manifest_under_the_name_of_another_partition(made: Any) -> None:
    mine, other = manifest_of(made, "scene-1"), manifest_of(made, "scene-2")
    shutil.copy(other, mine)
    store = griddle.open_cache(made.path).features()
    for read in (
        lambda: store.partition("scene-1"),
        lambda: store.patch_grid(made.images[6]),
        lambda: store.patch_grids(),
        lambda: store.counts,
    ):
        refused(read, str(mine), "describes scene-2", "renamed or swapped")
    same_as_verify(made, str(mine), "describes scene-2", "renamed or swapped")


def test_a_manifest_of_other_recordings(made: Any) -> None:
    """Under the partition's own name, but another member digest."""
    mine = manifest_of(made, "scene-1")
    renamed = mine.with_name("scene-1.1111111111.json")
    mine.rename(renamed)
    refused(
        lambda: griddle.open_cache(made.path).features().partition("scene-1"),
        str(renamed),
        "renamed or swapped",
    )


def test_a_partition_of_another_teacher(made: Any) -> None:
    made.add_features("scene-1", np.ones((5, *made.shape)), store=f"{made.other_teacher}/toy")
    mine = made.path / "features" / made.teacher / "toy"
    shutil.rmtree(mine)
    shutil.copytree(made.path / "features" / made.other_teacher / "toy", mine)
    store = griddle.open_cache(made.path).features(made.teacher)
    assert digest({"model": "vit_b", "storage": "float16"}) in made.other_teacher
    for read in (
        lambda: store.partition("scene-1"),
        lambda: store.patch_grid(made.images[0]),
        lambda: store.identity,
    ):
        refused(read, str(mine), "is of another store", made.teacher[-10:], made.other_teacher[-10:])
    same_as_verify(made, str(mine), "is of another store")

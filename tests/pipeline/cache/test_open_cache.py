"""`open_cache`: what it lists, what it finds, and what it says where something is not there."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import griddle
from cache_schemas.errors import BadInput
from cache_schemas.scans import SCANS


def test_what_is_in_it(made: Any) -> None:
    cache = griddle.open_cache(made.path)
    assert [store.name for store in cache.stores] == [
        made.scan_store,
        made.view_store,
        f"features/{made.teacher}/toy",
    ]
    assert {(store.dataset, tuple(store.partitions)) for store in cache.stores} == {
        ("toy", ("scene-1", "scene-2"))
    }
    assert f"features/{made.teacher}/toy: 2 partition(s)" in repr(cache)
    scans = cache.store("scans")
    assert (scans.schema, scans.counts) == (SCANS.tag, {"scans": 2, "points": 70_000})
    assert scans.identity == {"dataset": "toy"}
    assert scans.attribute("scans") == ["scene-1-scan", "scene-2-scan"]
    assert scans.left_out == {"scene-2": [{"what": "a scan", "why": "a test"}]}
    assert scans.bytes == sum(p.stat().st_size for p in made.path.glob("scans/*/*.zarr/**/*") if p.is_file())
    assert cache.store("scans/toy") is scans
    assert cache.features().images == list(made.images)
    assert cache.features("vit_a", "toy").teacher == made.teacher


def test_it_writes_nothing_and_changes_no_values(made: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("*")}
    cache = griddle.open_cache(made.path)
    image = made.images[5]
    first = cache.features_at(image, [[3, 4]])
    cache.pixel_features(image)
    cache.features().patch_grids().sum().compute()
    np.testing.assert_array_equal(first, cache.features_at(image, [[3, 4]]))
    assert {path: path.stat().st_mtime_ns for path in made.path.rglob("*")} == before


def test_an_image_that_several_teachers_or_datasets_hold(made: Any) -> None:
    values = np.ones((2, *made.shape))
    image = made.images[6]
    other = made.other_teacher
    made.add_features("scene-2", values, store=f"{other}/toy")
    cache = griddle.open_cache(made.path)
    for ask in (
        lambda: cache.pixel_features(image),
        lambda: cache.features_at(image, [[1, 1]]),
        cache.features,
    ):
        with pytest.raises(BadInput) as refusal:
            ask()
        for said in (
            "more than one feature store",
            "teacher=",
            f"features/{made.teacher}/toy",
            f"features/{other}/toy",
        ):
            assert said in str(refusal.value)
    assert cache.features_at(image, [[1, 1]], teacher="vit_b").tolist() == [[1] * made.shape[2]]
    assert cache.features_at(image, [[1, 1]], teacher=made.teacher).tolist() != [[1] * made.shape[2]]
    assert cache.patch_grid(made.images[0]).shape == made.shape  # only one has it
    made.add_features("scene-2", values * 2, store=f"{other}/second")
    cache = griddle.open_cache(made.path)
    with pytest.raises(BadInput, match="more than one"):
        cache.patch_grid(image, teacher="vit_b")
    assert cache.patch_grid(image, teacher="vit_b", dataset="second").min() == 2


def test_what_is_asked_for_and_not_there(made: Any) -> None:
    cache = griddle.open_cache(made.path)
    image = made.images[0]
    for ask, said in (
        (lambda: cache.patch_grid("scene-1-0.jpg"), f"did you mean {image!r}"),
        (lambda: cache.features_at("x.jpg", [[0, 0]]), "5 images|7 images"),
        (
            lambda: cache.features("vit_c"),
            f"no feature store of teacher vit_c.*\n  features/{made.teacher}/toy",
        ),
        (lambda: cache.features(dataset="kitti"), "no feature store .* dataset kitti"),
        (lambda: cache.patch_grid(image, teacher="vit_c"), "no feature store of teacher vit_c"),
        (lambda: cache.store("labels"), "has no 'labels'.*\n  scans/toy"),
        (
            lambda: cache.store("scans").partition("scene-3"),
            "no partition 'scene-3'.*from scene-1 to scene-2",
        ),
        (lambda: cache.store("scans").array("depth"), "scans/2: it has no array 'depth', but .*xyz"),
        (lambda: cache.store("scans").array("scan_offsets"), "partition='scene-1'"),
    ):
        with pytest.raises(BadInput, match=f"(?s){said}"):
            ask()
    with pytest.raises(ValueError, match="2 of 3 pixels lie outside the image of 160 x 90"):
        cache.features_at(image, [[1, 1], [-1, 0], [np.nan, 0]])
    with pytest.raises(ValueError, match=r"\(n, 2\), not \(2,\)"):
        cache.features_at(image, [1, 1])
    with pytest.raises(ValueError, match=r"published.*subpixel"):
        cache.features_at(image, [[1, 1]], sampling="nearest")
    shutil.rmtree(made.path / "views")
    with pytest.raises(BadInput, match=r"size of the original.*original="):
        griddle.open_cache(made.path).features_at(image, [[1, 1]])


def test_what_is_no_cache(made: Any, tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "nowhere", "nowhere does not exist"),
        (tmp_path, f"holds one: open {made.path}"),
        (made.path / "features", f"lies in one: open {made.path}"),
        (next(made.path.glob("scans/*/*.zarr")), f"lies in one: open {made.path}"),
    ):
        with pytest.raises(BadInput, match=said):
            griddle.open_cache(path)
    (tmp_path / "other" / "scans" / "toy-1").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"is no cache: none of .* holds a manifest"):
        griddle.open_cache(tmp_path / "other")


def test_importing_griddle_is_cheap() -> None:
    code = "import sys, griddle; print([m for m in ('torch', 'zarr', 'numpy', 'pandas', 'dask') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(dir(griddle)) == set(griddle.__all__)
    assert all(getattr(griddle, name) is not None for name in griddle.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'open_cash'; it has .*open_cache"):
        _ = griddle.open_cash

"""The example of docs/api.md does what it says: the same components as an SVD of all features at once, and a picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from PIL import Image

import griddle

EXAMPLE = Path(__file__).parents[2] / "examples" / "pca.py"


def test_on_the_tiny_cache(finished_master: Any, tmp_path: Path) -> None:
    cache = finished_master.work / "cache"
    features = griddle.open_cache(cache).features()
    image = features.images[5]
    command = [sys.executable, str(EXAMPLE), str(cache), str(tmp_path / "pca.png"), "--image", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grids = features.patch_grids().compute().astype(np.float64)
    rows = grids.reshape(-1, grids.shape[-1])
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    shares = sizes**2 / np.sum(sizes**2)
    printed = [
        float(found) for found in re.findall(r"^component.*?: +([\d.]+)% of", done.stdout, re.MULTILINE)
    ]
    np.testing.assert_allclose(printed, 100 * shares[:10], atol=0.006)
    assert f"{len(features.images)} images" in done.stdout

    with Image.open(tmp_path / "pca.png") as opened:
        assert opened.size == (2 * features.image_size[1], 2 * features.image_size[0])
        drawn = np.asarray(opened.convert("RGB")).astype(float)
    height, width = grids.shape[1:3]
    drawn = drawn[:: drawn.shape[0] // height, :: drawn.shape[1] // width]
    scores = (features.patch_grid(image) - mean) @ directions[:3].T
    for channel in range(3):  # a component may point either way
        agreement = np.corrcoef(drawn[:, :, channel].ravel(), scores[:, :, channel].ravel())[0, 1]
        assert abs(agreement) > 0.95


def test_many_shards_give_the_same_as_one() -> None:
    names: dict[str, Any] = {"__name__": "pca", "__doc__": ""}
    exec(compile(EXAMPLE.read_text(), EXAMPLE, "exec"), names)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(23, 3, 4, 6)) * np.arange(1, 7) + 100
    found = [names["principal_components"](da.from_array(values, (rows, 3, 4, 6)), 2) for rows in (2, 23)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(np.abs(one), np.abs(other), rtol=1e-6, atol=1e-9)
    mean, components, variance = found[0]
    rows = values.reshape(-1, 6)
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(variance, np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1], rtol=1e-6)
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-9)

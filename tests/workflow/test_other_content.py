"""A finished training is not taken for one of other files: where a cache was deleted, only the training itself knows."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.whole


def test_a_training_of_files_that_were_replaced_after_the_cache_was_deleted(finished: Any) -> None:
    finished.snakemake("pretrain_all")  # in its own folder: the root has another place than where it was made
    shutil.rmtree(finished.work / "cache")
    for path in (finished.folder / "toy" / "tiny" / "samples" / "LIDAR_TOP").iterdir():
        values = np.fromfile(path, "<f4").reshape(-1, 5)
        values[:, 2] += 0.5
        path.unlink()
        values.tofile(path)
    said = finished.snakemake("pretrain_all", check=1)
    (run,) = (finished.work / "runs").glob("wi_tiny-*")
    for words in ("finished training(s) were made of files that held something else", run.name):
        assert words in said.stderr + said.stdout
    assert "Nothing to be done" in finished.snakemake("pretrain_all", check=1).stderr

    os.rename(run, finished.folder / "away")
    finished.snakemake("pretrain_all")
    first, second = (
        json.loads((folder / "provenance.json").read_text()) for folder in (finished.folder / "away", run)
    )
    assert first["run_id"] == second["run_id"]
    assert first["made_of"] != second["made_of"]

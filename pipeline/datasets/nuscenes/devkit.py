"""What we use of nuscenes-devkit: its database, and the official lists of scenes. Only this file imports it.

It asks for numpy below 2, and runs on newer ones all the same (`.ci/numpy2` tests it there). Reading points and labels,
writing predictions, and all that starts from a cache do without it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.datasets.packages import needed

_BESIDE_NUMPY_2 = (
    "That asks for numpy below 2. To keep a newer one: `pip install --no-deps nuscenes-devkit && pip install cachetools "
    "opencv-python-headless pyquaternion scikit-learn`."
)


def load_database(root: Path, version: str) -> Any:
    """The devkit's `NuScenes`; its bare assertions become errors that say what to do.

    Raises:
        BadInput: if the devkit is not there, or cannot load this version from `root`.
    """
    devkit = needed("nuscenes.nuscenes", "the reader nuscenes", "nuscenes-devkit", _BESIDE_NUMPY_2)
    try:
        return devkit.NuScenes(version=version, dataroot=str(root), verbose=False)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"a table in {root / version} is no valid JSON ({error}); extract the archive again."
        ) from error
    except (AssertionError, FileNotFoundError, KeyError) as error:
        raise BadInput(
            f"nuscenes-devkit cannot load {version} from {root}: {type(error).__name__}: {error}.\n"
            f"Extract the archives of this version whole (metadata, maps, and lidarseg if you have it)."
        ) from error


def official_scenes(by: str) -> dict[str, list[str]]:
    """Names of the scenes of each official split, and of both of the mini version; takes two seconds to import.

    Args:
        by: what needs them, to begin an error with.

    Raises:
        BadInput: if the devkit is not there.
    """
    splits = needed("nuscenes.utils.splits", by, "nuscenes-devkit", _BESIDE_NUMPY_2)
    return splits.create_splits_scenes()

"""What we use of nuscenes-devkit: its database, and the official lists of scenes. Only this file imports it.

It asks for numpy below 2, and runs on newer ones all the same (`.ci/numpy2` tests it there). Reading points and labels,
writing predictions, and all that starts from a cache do without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cache_schemas.errors import BadInput
from pipeline.datasets.fence import reading
from pipeline.datasets.nuscenes.tables import read_table
from pipeline.datasets.packages import needed

_BESIDE_NUMPY_2 = (
    "That asks for numpy below 2. To keep a newer one: `pip install --no-deps nuscenes-devkit && pip install cachetools "
    "opencv-python-headless pyquaternion scikit-learn`."
)


def load_database(root: Path, version: str) -> Any:
    """The devkit's `NuScenes`, its tables checked; its bare assertions become errors that say what to do.

    Raises:
        BadInput: if the devkit is not there, or cannot load this version from `root`; it names the table and the row.
    """
    devkit = needed("nuscenes.nuscenes", "the reader nuscenes", "nuscenes-devkit", _BESIDE_NUMPY_2)

    class Checked(devkit.NuScenes):  # type: ignore[name-defined]
        def __load_table__(self, table_name: str) -> list[dict[str, Any]]:
            return read_table(root / version / f"{table_name}.json")

        def getind(self, table_name: str, token: str) -> Any:
            try:
                return super().getind(table_name, token)
            except (KeyError, TypeError) as error:
                raise BadInput(
                    f"table {root / version / table_name}.json has no row {token!r}, which another table names; extract "
                    f"its archive again"
                ) from error

    with reading(
        f"nuscenes-devkit cannot load {version} from {root}. Extract the archives of this version whole (metadata, maps, "
        f"and lidarseg if you have it)"
    ):
        return Checked(version=version, dataroot=str(root), verbose=False)


def official_scenes(by: str) -> dict[str, list[str]]:
    """Names of the scenes of each official split, and of both of the mini version; takes two seconds to import.

    Args:
        by: what needs them, to begin an error with.

    Raises:
        BadInput: if the devkit is not there.
    """
    splits = needed("nuscenes.utils.splits", by, "nuscenes-devkit", _BESIDE_NUMPY_2)
    return splits.create_splits_scenes()

"""From the points of a KITTI sequence to the pixels of its left colour camera: what `calib.txt` says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cache_schemas.access import read_regular
from pipeline.datasets.packages import needed
from pipeline.geometry.calibration import RigidStep

ARCHIVE = "data_odometry_calib.zip (KITTI odometry benchmark, calibration files)"
_EXPONENT = re.compile(r"[+-]?\d\.\d+e[+-]\d\d", re.ASCII)
MOST_BYTES = 2**20
"""Of the file; real ones have 1 kB."""
_NOT_ROTATED = 1e-3
"""How far a matrix may be from a rotation: the files give 12 digits; one of them wrong shows."""


@dataclass(frozen=True)
class Calibration:
    """One camera of a sequence.

    Attributes:
        intrinsics: 3 x 3, row by row, in pixels.
        steps: from the scan's frame to the camera's: `Tr`, to the rectified left grey camera, then along to the colour one.
    """

    intrinsics: tuple[float, ...]
    steps: tuple[RigidStep, RigidStep]


def read_calibration(path: Path) -> Calibration:
    """`P2` and `Tr` of a sequence's `calib.txt`.

    P2 (3 x 4, homogeneous points of the grey camera to pixels) is K [I | t]; so t = K^-1 P2's last column.

    Raises:
        ValueError: in words for the user, for a file that is missing, cut short, or lacks P2 or Tr.
        BadInput: if pykitti is not there.
    """
    import numpy as np

    pykitti = needed("pykitti.utils", "the reader semantic_kitti", "pykitti")
    try:
        text = read_regular(path, MOST_BYTES).decode()
        rows = pykitti.read_calib_file(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{path} is missing; extract {ARCHIVE}") from error
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is no calibration file of KITTI, or was cut short; extract {ARCHIVE} again"
        ) from error
    matrices = {}
    for key in ("P2", "Tr"):
        words = next((line.split()[1:] for line in text.splitlines() if line.startswith(f"{key}:")), [])
        if not words and key not in rows:
            hint = "the one in the image archives lacks it; " if key == "Tr" else ""
            raise ValueError(f"{path} has no {key}: {hint}extract {ARCHIVE} over it")
        if (
            len(words) != 12
            or len(rows.get(key, ())) != 12
            or _is_cut(words)
            or not np.isfinite(rows[key]).all()
        ):
            raise ValueError(
                f"{path}: {key} has {len(words)} of 12 numbers, or its last is cut short; extract {ARCHIVE} again"
            )
        matrices[key] = rows[key].reshape(3, 4)
    camera, turn = matrices["P2"][:, :3], matrices["Tr"][:, :3]
    if camera[2].tolist() != [0, 0, 1] or not camera[0, 0] * camera[1, 1]:
        raise ValueError(f"{path}: P2 is no pinhole camera's; extract {ARCHIVE} again")
    if np.abs(turn @ turn.T - np.eye(3)).max() > _NOT_ROTATED or np.linalg.det(turn) < 0:
        raise ValueError(f"{path}: Tr does not rotate; extract {ARCHIVE} again")
    along = np.linalg.solve(camera, matrices["P2"][:, 3])
    return Calibration(
        intrinsics=tuple(camera.ravel().tolist()),
        steps=(
            RigidStep(tuple(turn.ravel().tolist()), tuple(matrices["Tr"][:, 3].tolist())),
            RigidStep((1.0, 0.0, 0.0, 0.0), tuple(along.tolist())),
        ),
    )


def _is_cut(words: list[str]) -> bool:
    """Whether the last number is shorter than all others, where these are written alike: cut, it is still a number."""
    *others, last = (word.lstrip("+-") for word in words)
    alike = all(_EXPONENT.fullmatch(word) for word in others) and len({*map(len, others)}) == 1
    return alike and len(last) < len(others[0])

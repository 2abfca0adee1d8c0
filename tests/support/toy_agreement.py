"""Whether a toy scene's points fall on pixels of their class: an image of classes is cast from the camera itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.datasets.town.camera import Pinhole
from pipeline.datasets.town.frames import Pose
from pipeline.datasets.town.primitives import Label
from pipeline.datasets.town.raycast import cast
from pipeline.datasets.town.town import Town


def agreement(
    town: Town,
    camera: tuple[Pinhole, Pose],
    pixel: np.ndarray,
    depth: np.ndarray,
    label: np.ndarray,
    id_of: Mapping[Label, int],
) -> tuple[int, int]:
    """How many points fall on their class, of those that the camera surely sees.

    Args:
        camera: and town←camera.
        pixel, depth, label: (N, 2), (N,), (N,); all in the image, not within a pixel of its border.
    """
    pinhole, pose = camera
    hits = cast(town.primitives, pinhole.rays(pose))
    ids = np.array([id_of[kind] for kind in Label] + [-1])
    image = ids[np.append(town.primitives.label, len(Label))[hits.primitive]]
    col, row = np.floor(pixel).astype(int).T
    around = np.stack([image[row + i, col + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    rays = np.sqrt(((pixel - (pinhole.cx, pinhole.cy)) ** 2 / (pinhole.fx**2, pinhole.fy**2)).sum(axis=1) + 1)
    # Away from edges, and nothing before them: the camera is not where the lidar is.
    sure = (around == around[4]).all(axis=0) & (depth * rays < hits.distance[row, col] + 0.5)
    return int((image[row, col] == label)[sure].sum()), int(sure.sum())

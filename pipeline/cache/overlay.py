"""The points that a camera sees, drawn on its image and coloured by depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cache_schemas.errors import BadInput
from cache_schemas.manifest import Manifest
from cache_schemas.reading import PartitionReader
from cache_schemas.views import VIEWS

NEAREST, FARTHEST = 1.0, 60.0
"""Metres at the two ends of the colours; depth is shown on a logarithmic scale."""


def draw_overlays(manifest: Manifest, root: Path, folder: Path) -> list[tuple[Path, int]]:
    """Write one PNG per view of a partition; returns each with its number of points.

    Raises:
        BadInput: naming the image that is missing under `root`.
    """
    reader = PartitionReader(manifest.path.parent, VIEWS, manifest.partition, manifest.member_digest)
    attributes = reader.attributes
    bounds = reader.read("seen_offsets").astype(np.int64)
    view_scan = reader.read("view_scan")
    cameras = reader.read("view_camera")
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path, int]] = []
    for view, name in enumerate(attributes["images"]):
        pixel = reader.read("pixel", bounds[view], bounds[view + 1])
        depth = reader.read("depth", bounds[view], bounds[view + 1])
        camera = attributes["cameras"][cameras[view]]
        path = folder / f"{manifest.partition}_{view_scan[view]:04d}_{camera}.png"
        overlay(_open(root / name), pixel, depth).save(path)
        drawn.append((path, len(pixel)))
    return drawn


def overlay(image: Image.Image, pixel: np.ndarray, depth: np.ndarray) -> Image.Image:
    """A copy of an image with points (n, 2) drawn on it, the far ones first; red is near, blue is far."""
    shown = image.convert("RGB").copy()
    draw = ImageDraw.Draw(shown)
    radius = max(1.0, image.width / 640)
    colours = depth_colours(depth)
    for place in np.argsort(-depth):
        u, v = pixel[place]
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=tuple(colours[place]))
    return shown


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 for depths (n,) in metres."""
    from matplotlib import colormaps

    span = np.log(FARTHEST / NEAREST)
    nearness = 1 - np.clip(np.log(np.maximum(depth, NEAREST) / NEAREST) / span, 0, 1)
    return (colormaps["turbo"](nearness)[:, :3] * 255).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be opened ({error}); give the dataset's folder with --root."
        ) from error

"""How much memory a job of the features stage asks for: what its rule declares, and a test measures."""

from __future__ import annotations

import re

from pipeline.config.model import Teacher
from pipeline.config.model_names import channels, patch_size, timm_name

BASE_MB = 3000
"""Python, torch and its libraries: 700 MB measured on a CPU; a GPU's context takes more."""
PARTITION_MB = 1400
"""A partition being written, its largest shard several times over: gathered, encoded, put together (1,300 measured)."""
PARTITIONS = 2
"""Written at once: `pipeline.preprocessing.features.IN_FLIGHT`."""
COPIES_OF_WEIGHTS = 3
"""While they are loaded: the file's, the network's, and one that is being moved or compared."""
LIVE_VALUES = 40
"""Float32 values of a block that live at once on a CPU, for each patch and channel."""
GPU_LANES = 2
"""Forward passes at once on a GPU: `pipeline.teachers.flow.GPU_LANES`."""
DECODED_MB = 60
"""An original image of 1600 x 900 to 2048 x 1280 pixels as bytes and as float32."""

_MILLIONS = {
    "tiny": 6,
    "small": 30,
    "base": 90,
    "large": 310,
    "huge": 640,
    "so400m": 430,
    "giant": 1140,
    "gigantic": 1850,
    "7b": 6720,
}
_UNKNOWN_MILLIONS = 400


def features_mem_mb(teacher: Teacher, threads: int) -> int:
    """Megabytes that `griddle features` may take, on a CPU or, beside its own memory, on a GPU.

    Args:
        threads: that it is given.
    """
    height, width = teacher.image_size
    patch = patch_size(teacher.model) or 8
    values = (height // patch) * (width // patch) * (channels(teacher.model, teacher.layer) or 1024)
    image_mb = (
        (3 * height * width + 3 * values) * 4 / 1e6
    )  # an input, and its patch grid on the way to the store
    on_the_way = 2 * (GPU_LANES * teacher.images_per_batch + 2 * threads) * image_mb
    forward = threads * LIVE_VALUES * values * 4 / 1e6
    weights = COPIES_OF_WEIGHTS * 4 * millions_of_weights(teacher.model)
    total = BASE_MB + PARTITIONS * PARTITION_MB + weights + forward + on_the_way + threads * DECODED_MB
    return round(total / 100 + 0.5) * 100


def millions_of_weights(model: str) -> int:
    """About, and rather more than less, from the name; for estimates of memory alone.

    >>> millions_of_weights("dinov2_vits14"), millions_of_weights("vit_giant_patch14_dinov2.lvd142m")
    (30, 1140)
    """
    words = re.split(r"[^a-z0-9]", timm_name(model))
    return next((count for size, count in _MILLIONS.items() if size in words), _UNKNOWN_MILLIONS)

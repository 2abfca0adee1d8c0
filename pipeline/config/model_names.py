"""What is known of a model before the DAG, where importing timm would take seconds: from its registry row or its name.

The loaded model is checked against it, so a name that misleads is an error and not a wrong cache.
"""

import re

from pipeline.config.layer import parse_layer
from pipeline.config.registry import REGISTRY, row_of

_PATCH = re.compile(r"_patch(\d+)(?:_|\.|$)")
_HYBRID = re.compile(r"_r\d*_s(\d+)(?:_p(\d+))?(?:_|\.|$)")
_CHANNELS = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280, "giant": 1536}


def timm_name(model: str) -> str:
    """The timm name that a config's `model` stands for.

    >>> timm_name("dino_vits8")
    'vit_small_patch8_224.dino'
    """
    return REGISTRY[model].model if model in REGISTRY else model


def patch_size(model: str, layer: str = "last") -> int | None:
    """Side of a patch in pixels, or None where neither row nor name say.

    >>> patch_size("vit_small_patch14_dinov2.lvd142m")
    14
    """
    row = row_of(model)
    if row is not None and (row.layer == layer or parse_layer(layer).where == "block"):
        return row.patch
    if parse_layer(layer).where == "stage":
        return None
    match = _PATCH.search(model)
    return int(match.group(1)) if match else None


def stride(model: str, layer: str = "last") -> int | None:
    """Pixels from one patch of the grid to the next: for estimates of size alone.

    A hybrid's network strides before its patches do: by what its name says in all, or where it has patches of its own
    by a stem's 4.

    >>> [stride(model) for model in ("vit_tiny_r_s16_p8_224", "vit_base_r50_s16_224", "vit_base_patch16_224")]
    [32, 16, 16]
    """
    match = None if row_of(model) else _HYBRID.search(model)
    if match is None:
        return patch_size(model, layer)
    return 4 * int(match.group(2)) if match.group(2) else int(match.group(1))


def channels(model: str, layer: str = "last") -> int | None:
    """Channels of what is read, or None where neither row nor name say: for estimates of size alone.

    >>> channels("vit_large_patch14_dinov2.lvd142m")
    1024
    """
    row = row_of(model)
    if row is not None and row.layer == layer:
        return row.channels
    if parse_layer(layer).where == "stage":
        return None
    if parse_layer(layer).what == "maskclip projected":
        return 512 if "_base_" in model else None
    if row is not None and not row.layer.endswith("projected"):
        return row.channels
    return next((count for size, count in _CHANNELS.items() if f"_{size}_" in timm_name(model)), None)


def short_name(model: str) -> str:
    """The model's name as a part of a path: without the tag, with nothing that a shell would mind."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", model.split(".")[0].split("/")[-1])

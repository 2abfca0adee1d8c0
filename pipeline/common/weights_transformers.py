"""Names of Hugging Face's transformers, for ViT and DINOv2, turned into those of the networks' authors.

Both keep the same tensors; transformers holds queries, keys and values apart, where the authors have one matrix of all three.
Source: transformers 4, models/vit/modeling_vit.py and models/dinov2/modeling_dinov2.py (their classes' attributes), and
facebookresearch/dino vision_transformer.py, facebookresearch/dinov2 dinov2/layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ANCHOR = "embeddings.patch_embeddings.projection.weight"
"""The weight of a patch embedding, by which a network of transformers is known."""

_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_IN_BLOCK = {
    "norm1": "norm1",  # DINOv2
    "norm2": "norm2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.weights_in": "mlp.w12",
    "mlp.weights_out": "mlp.w3",
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",  # ViT
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+?)(\.weight|\.bias|)")
_THREE = ("query", "key", "value")
_ATTENTION = re.compile(r"attention\.attention\.(query|key|value)")


def plain_names(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each of the authors' names the names in transformers: one, or three whose tensors are put on top of each other.

    Names that are in no table stay as they are, and so do queries, keys and values that are not all there.

    Raises:
        ValueError: if two tensors have one name.
    """
    given = set(names)
    plain: dict[str, tuple[str, ...]] = {}
    for name in sorted(given):
        new, sources = _plain(name, given)
        if plain.setdefault(new, sources) != sources:
            raise ValueError(f"{plain[new][0]} and {sources[0]} are both its {new}")
    return plain


def _plain(name: str, given: set[str]) -> tuple[str, tuple[str, ...]]:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name], (name,)
    block = _BLOCK.fullmatch(name)
    if block is None:
        return name, (name,)
    number, inner, kind = block.groups()
    if _ATTENTION.fullmatch(inner):
        three = tuple(f"encoder.layer.{number}.attention.attention.{part}{kind}" for part in _THREE)
        return (f"blocks.{number}.attn.qkv{kind}", three) if given.issuperset(three) else (name, (name,))
    return (f"blocks.{number}.{_IN_BLOCK[inner]}{kind}", (name,)) if inner in _IN_BLOCK else (name, (name,))

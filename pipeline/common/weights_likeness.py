"""What a file that is no teacher's weights looks like by its names, and what to do then: files come from many programs."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TAKE_OUT = (
    "where it was trained, save the network alone: torch.save(model.backbone.state_dict(), 'backbone.pth')"
)

_KINDS: tuple[tuple[str, str], ...] = (
    (
        r"lora_|adapter",
        "a file with adapters (LoRA), without which the network computes other features: merge them into the network "
        "(merge_and_unload() of peft), and save its state_dict()",
    ),
    (
        r"(^|\.)_?flat_param",
        "one process's share of a training with FSDP: gather the whole weights there (StateDictType.FULL_STATE_DICT), and save "
        "them",
    ),
    (
        r"(^|\.)vision_model\.",
        "transformers' CLIP or SigLIP, whose names are not read: give the file that timm has of this network (`weights: hub`)",
    ),
    (
        r"(^|\.)embeddings\.patch_embeddings\.",
        "a network of transformers. Of these ViT and DINOv2 are read, and this one has other names: give the file that timm has "
        "of it (`weights: hub`), or the authors'",
    ),
    (r"(^|\.)(exp_avg|param_groups)", f"the state of an optimiser, not of a network: {_TAKE_OUT}"),
    (
        r"(^|\.)text_model\.|(^|\.)transformer\.resblocks",
        "CLIP with its text tower: give the authors' file or OpenCLIP's as they are, with a CLIP model of timm",
    ),
    (
        r"(^|\.)layer1\.0\.conv1\.weight$",
        f"a ResNet: name such a model of timm, with `layer: stage N`; or, {_TAKE_OUT}",
    ),
    (
        r"(^|\.)(stem\.0|downsample_layers\.0\.0)\.weight$",
        f"a ConvNeXt: name such a model of timm, with `layer: stage N`; or, {_TAKE_OUT}",
    ),
    (
        r"(^|\.)patch_embed\.proj\.weight$",
        "a vision transformer. Give `model` the name of the same one: its size, patch and registers must be those of the "
        f"file. If it has parts of its own beside the network, {_TAKE_OUT}",
    ),
)


def likeness(names: Iterable[str]) -> str:
    """What a file with tensors of these names looks like, and what to do; empty where that is not known."""
    given = list(names)
    for pattern, words in _KINDS:
        if any(re.search(pattern, name) for name in given):
            return f"By its names it looks like {words}."
    return ""

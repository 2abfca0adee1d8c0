"""One row per published teacher: the only truth about it. Everything here is known before torch or timm are imported.

Patch, channels, mean, std, hub repository and licence are those of timm's own configuration of the model (a test holds
every row equal to it). `sha256` is of the original authors' file, and blank where no source for it can be cited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Colour = tuple[float, float, float]
Resample = Literal["scale factor", "antialiased size", "size"]
"""How the original authors resample position embeddings to another image size, always bicubic: by a scale factor of
(patches + 0.1) / old patches without antialias; to the size with antialias; to the size without."""

IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Colour, Colour] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SATELLITE: tuple[Colour, Colour] = ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))


@dataclass(frozen=True)
class Row:
    """A published teacher.

    Attributes:
        name: what a config may write as `model`.
        model: timm's name, tag included.
        layer: what is read unless the config says otherwise (`pipeline/config/layer.py`).
        patch: side in pixels of what one row of the patch grid stands for.
        channels: of a row of the patch grid.
        mean, std: of the input normalisation, for RGB in [0, 1].
        hub: repository of the weights on the Hugging Face hub.
        revision: of the repository, or None for its newest (`weights: hub@REVISION` names one).
        licence: of the weights.
        file: name of the original authors' file, which `weights: /path/to/file` also takes; None if timm's is all.
        sha256: of that file, whole or its first digits, with `sha256_source`; blank where none can be cited.
        resample: the original authors' way with position embeddings; None where there are none to resample.
        notes: what a user should know.
    """

    name: str
    model: str
    layer: str
    patch: int
    channels: int
    licence: str
    mean: Colour = IMAGENET[0]
    std: Colour = IMAGENET[1]
    hub: str = ""
    revision: str | None = None
    file: str | None = None
    sha256: str = ""
    sha256_source: str = ""
    resample: Resample | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.hub:
            object.__setattr__(self, "hub", f"timm/{self.model}")


_DINOV3_HASHES = "facebookresearch/dinov3, dinov3/hub/backbones.py, `hash` (its first eight digits)"


def _dino(size: str, letter: str, patch: int, channels: int, file: str) -> Row:
    return Row(
        name=f"dino_vit{letter}{patch}",
        model=f"vit_{size}_patch{patch}_224.dino",
        layer="last keys",
        patch=patch,
        channels=channels,
        licence="apache-2.0",
        file=file,
        resample="scale factor",
        notes="ScaLR distils the keys of the last attention layer (supplement B.2), heads side by side, CLS dropped.",
    )


def _dinov2(size: str, letter: str, channels: int) -> tuple[Row, Row]:
    plain = Row(
        name=f"dinov2_vit{letter}14",
        model=f"vit_{size}_patch14_dinov2.lvd142m",
        layer="last",
        patch=14,
        channels=channels,
        licence="apache-2.0",
        file=f"dinov2_vit{letter}14_pretrain.pth",
        resample="scale factor",
        notes="ScaLR's and ScaLR+'s teacher family: the last block before the final norm, CLS dropped.",
    )
    registers = Row(
        name=f"dinov2_vit{letter}14_reg",
        model=f"vit_{size}_patch14_reg4_dinov2.lvd142m",
        layer="last",
        patch=14,
        channels=channels,
        licence="apache-2.0",
        file=f"dinov2_vit{letter}14_reg4_pretrain.pth",
        resample="antialiased size",
        notes="With four registers, dropped with CLS; its authors resample positions to the size with antialias.",
    )
    return plain, registers


def _dinov3(
    name: str, model: str, channels: int, file: str, sha256: str, colours: tuple[Colour, Colour] = IMAGENET
) -> Row:
    mean, std = colours
    return Row(
        name=name,
        model=model,
        layer="last",
        patch=16,
        channels=channels,
        licence="dinov3-license",
        mean=mean,
        std=std,
        file=f"{file}-{sha256}.pth" if sha256 else None,
        sha256=sha256,
        sha256_source=_DINOV3_HASHES if sha256 else "",
        notes="Rotary positions: nothing to resample. Meta's own licence; read it before you share what you derive.",
    )


def _dinov3_convnext(size: str, channels: int) -> Row:
    return Row(
        name=f"dinov3_convnext_{size}",
        model=f"convnext_{size}.dinov3_lvd1689m",
        layer="stage 3",
        patch=32,
        channels=channels,
        licence="dinov3-license",
        notes="A convnet, its last stage through timm's features_only; image sides are multiples of 32.",
    )


_ROWS = (
    _dino("small", "s", 8, 384, "dino_deitsmall8_pretrain.pth"),
    _dino("small", "s", 16, 384, "dino_deitsmall16_pretrain.pth"),
    _dino("base", "b", 8, 768, "dino_vitbase8_pretrain.pth"),
    _dino("base", "b", 16, 768, "dino_vitbase16_pretrain.pth"),
    *_dinov2("small", "s", 384),
    *_dinov2("base", "b", 768),
    *_dinov2("large", "l", 1024),
    *_dinov2("giant", "g", 1536),
    _dinov3(
        "dinov3_vits16",
        "vit_small_patch16_dinov3.lvd1689m",
        384,
        "dinov3_vits16_pretrain_lvd1689m",
        "08c60483",
    ),
    _dinov3(
        "dinov3_vits16plus",
        "vit_small_plus_patch16_dinov3.lvd1689m",
        384,
        "dinov3_vits16plus_pretrain_lvd1689m",
        "4057cbaa",
    ),
    _dinov3(
        "dinov3_vitb16",
        "vit_base_patch16_dinov3.lvd1689m",
        768,
        "dinov3_vitb16_pretrain_lvd1689m",
        "73cec8be",
    ),
    _dinov3(
        "dinov3_vitl16",
        "vit_large_patch16_dinov3.lvd1689m",
        1024,
        "dinov3_vitl16_pretrain_lvd1689m",
        "8aa4cbdd",
    ),
    _dinov3(
        "dinov3_vitl16_sat",
        "vit_large_patch16_dinov3.sat493m",
        1024,
        "dinov3_vitl16_pretrain_sat493m",
        "eadcf0ff",
        SATELLITE,
    ),
    _dinov3(
        "dinov3_vith16plus",
        "vit_huge_plus_patch16_dinov3.lvd1689m",
        1280,
        "dinov3_vith16plus_pretrain_lvd1689m",
        "7c1da9a5",
    ),
    _dinov3("dinov3_vit7b16", "vit_7b_patch16_dinov3.lvd1689m", 4096, "", ""),
    _dinov3("dinov3_vit7b16_sat", "vit_7b_patch16_dinov3.sat493m", 4096, "", "", SATELLITE),
    _dinov3_convnext("tiny", 768),
    _dinov3_convnext("small", 768),
    _dinov3_convnext("base", 1024),
    _dinov3_convnext("large", 1536),
    Row(
        name="mae_vitb16",
        model="vit_base_patch16_224.mae",
        layer="last",
        patch=16,
        channels=768,
        licence="cc-by-nc-4.0",
        file="mae_pretrain_vit_base.pth",
        resample="size",
        notes=(
            "Not for commercial use. Which layer ScaLR read is not published; here the last block before the final norm, "
            "as for DINOv2. Its authors publish an MD5 that begins 8cad7c (facebookresearch/mae, README.md), no SHA-256."
        ),
    ),
    Row(
        name="maskclip_vitb16",
        model="vit_base_patch16_clip_quickgelu_224.openai",
        layer="last maskclip projected",
        patch=16,
        channels=512,
        licence="apache-2.0",
        mean=CLIP[0],
        std=CLIP[1],
        hub="timm/vit_base_patch16_clip_224.openai",
        file="ViT-B-16.pt",
        sha256="5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        sha256_source="openai/CLIP, clip/clip.py, the ViT-B/16 address",
        resample="size",
        notes=(
            "Of the last block: v = out_proj(values of ln_1(x)), v + x, + MLP(ln_2), ln_post, then CLIP's projection to 512 "
            "(chongzhou96/MaskCLIP, mmseg/models/backbones/vit.py and decode_heads/maskclip_head.py). CLIP's QuickGELU, "
            "LayerNorm eps 1e-5, mean and std, where MaskCLIP's port has GELU, 1e-6 and ImageNet's. Which of 512 or 768 "
            "channels (`layer: last maskclip`) ScaLR read is not published."
        ),
    ),
)

REGISTRY: dict[str, Row] = {row.name: row for row in _ROWS}
_BY_MODEL: dict[str, Row] = {row.model: row for row in _ROWS}


def row_of(model: str) -> Row | None:
    """The row of a registry name or of a timm name; None for a model that is in no row.

    >>> row_of("dinov2_vits14").model
    'vit_small_patch14_dinov2.lvd142m'
    """
    return REGISTRY.get(model) or _BY_MODEL.get(model)

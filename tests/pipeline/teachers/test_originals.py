"""State dicts with the original authors' names, read through timm, give what the original networks compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import originals
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.config.layer import parse_layer
from pipeline.config.registry import REGISTRY
from pipeline.teachers.loaded import resample_positions
from pipeline.teachers.reading import reader_of
from pipeline.teachers.weights import load_weights

WIDTH, HEADS, DEPTH = 96, 4, 3
ROWS = {
    "dino_vits8": {"side": 28, "dinov2": False},
    "dinov2_vits14": {"side": 37, "dinov2": True},
    "dinov2_vitb14_reg": {"side": 37, "dinov2": True, "registers": 4},
    "dinov2_vitg14": {"side": 37, "dinov2": True, "swiglu": True},
    "mae_vitb16": {"side": 14, "dinov2": False},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def small(name: str, size: tuple[int, int] | None, **more: Any) -> nn.Module:
    """timm's model of a row, with fewer and narrower blocks."""
    sized = {} if size is None else {"img_size": size}
    choices = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH, "num_classes": 0, **sized, **more}
    return timm.create_model(REGISTRY[name].model, pretrained=False, **choices).eval()


def original(name: str) -> originals.ViT:
    row = REGISTRY[name]
    made = originals.ViT(patch=row.patch, width=WIDTH, heads=HEADS, depth=DEPTH, **ROWS[name])
    for parameter in made.parameters():
        if parameter.dim() == 1:  # norms and biases away from 1 and 0
            nn.init.uniform_(parameter, 0.5, 1.5)
    return made.eval()


def loaded(name: str, state: dict[str, Tensor], folder: Path, size: tuple[int, int]) -> nn.Module:
    path = folder / "weights.pth"
    torch.save(state, path)
    model = small(name, size)
    load_weights(model, str(path), REGISTRY[name])
    return model


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("positions", ["timm", "original"])
def test_a_row_reads_what_the_original_network_computes(name: str, positions: str, tmp_path: Path) -> None:
    row = REGISTRY[name]
    network = original(name)
    size = (4 * row.patch, 7 * row.patch)
    images = torch.rand(2, 3, *size)
    model: Any = loaded(name, network.state_dict(), tmp_path, size)
    how = "timm"
    if positions == "original":
        assert row.resample is not None
        how = row.resample
        wide = resample_positions(network.pos_embed.detach()[:, 1:], (4, 7), how)
        kept = model.pos_embed[:, : model.pos_embed.shape[1] - 28]
        model.pos_embed = nn.Parameter(torch.cat([kept, wide], dim=1))
    with torch.no_grad():
        outputs = network.outputs(images, how)
        block = network.blocks[-1]
        wanted = outputs[-1]
        if row.layer == "last keys":
            wanted = block.attn.parts(block.norm1(outputs[-2]))[1]
        found = reader_of(model, parse_layer(row.layer), name)(images)
        torch.testing.assert_close(found, network.grid(wanted, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["queries", "keys", "values"])
@pytest.mark.parametrize("block", [0, 1])
def test_parts_of_the_attention_of_any_block(part: int, block: int, tmp_path: Path) -> None:
    network = original("dino_vits8")
    images = torch.rand(1, 3, 16, 24)
    model = loaded("dino_vits8", network.state_dict(), tmp_path, (16, 24))
    what = ("queries", "keys", "values")[part]
    with torch.no_grad():
        rows = network.blocks[block].attn.parts(
            network.blocks[block].norm1(network.outputs(images, "timm")[block])
        )
        found = reader_of(model, parse_layer(f"block {block} {what}"), "small")(images)
    torch.testing.assert_close(found, network.grid(rows[part], images), rtol=1e-4, atol=1e-5)


def test_the_final_norm_can_be_read(tmp_path: Path) -> None:
    network = original("dinov2_vits14")
    images = torch.rand(1, 3, 28, 42)
    model = loaded("dinov2_vits14", network.state_dict(), tmp_path, (28, 42))
    with torch.no_grad():
        wanted = network.grid(network.norm(network.outputs(images, "timm")[-1]), images)
        found = reader_of(model, parse_layer("last normed"), "small")(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("projected", [False, True], ids=["768", "projected"])
def test_maskclip_is_the_value_path_of_the_last_block(projected: bool, suffix: str, tmp_path: Path) -> None:
    tower = originals.ClipTower(patch=16, side=14, width=WIDTH, heads=HEADS, depth=DEPTH, joint=32).eval()
    state = {f"visual.{key}": value.contiguous() for key, value in tower.state_dict().items()}
    state["token_embedding.weight"] = torch.zeros(5, 5)  # of the text tower, which the file holds, too
    path = tmp_path / f"clip{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    model = small("maskclip_vitb16", None, **({"num_classes": 32} if projected else {}))
    load_weights(model, str(path), REGISTRY["maskclip_vitb16"])
    images = torch.rand(2, 3, 224, 224)
    layer = "last maskclip projected" if projected else "last maskclip"
    with torch.no_grad():
        found = reader_of(model, parse_layer(layer), "clip")(images)
        wanted = tower.maskclip(images)[projected]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


def test_clip_needs_quickgelu() -> None:
    """The name without `quickgelu` would read another function of the same weights."""
    images = torch.rand(1, 3, 224, 224)
    quick = small("maskclip_vitb16", None)
    torch.manual_seed(0)
    plain = timm.create_model(
        "vit_base_patch16_clip_224.openai", embed_dim=WIDTH, num_heads=HEADS, depth=DEPTH, num_classes=0
    ).eval()
    plain.load_state_dict(quick.state_dict())
    layer = parse_layer("last maskclip")
    with torch.no_grad():
        difference = reader_of(quick, layer, "q")(images) - reader_of(plain, layer, "p")(images)
    assert difference.abs().max() > 1e-4


def test_dinos_full_checkpoint_and_maes_container_are_unwrapped(tmp_path: Path) -> None:
    network = original("dino_vits8")
    wrapped = {"teacher": {f"module.backbone.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}
    first = loaded("dino_vits8", wrapped, tmp_path, (16, 24)).state_dict()  # type: ignore[arg-type]
    second = loaded("dino_vits8", {"model": network.state_dict()}, tmp_path, (16, 24)).state_dict()  # type: ignore[dict-item]
    assert all(torch.equal(first[key], second[key]) for key in first)

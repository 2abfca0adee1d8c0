"""The teacher: the layer that is read, where weights come from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cache_schemas.errors import BadInput, DamagedCache, GriddleError
from cache_schemas.publish import write_json
from pipeline.config.model import Teacher
from pipeline.config.standardisation import KIND, MEASURED_FOR
from pipeline.teachers.loaded import load_teacher, resample_positions
from pipeline.teachers.weights import weights_digest
from pipeline.teachers.weights_lock import check_weights

CPU = torch.device("cpu")
MODEL, SIZE = "vit_tiny_patch16_224", (32, 64)


def teacher(**choices: object) -> Teacher:
    return Teacher.model_validate({"model": MODEL, "weights": "untrained", "image_size": SIZE, **choices})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_reads_the_last_block_before_the_final_norm(images: torch.Tensor) -> None:
    loaded = load_teacher(teacher(), CPU)
    kept: list[torch.Tensor] = []
    handle = loaded.model.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    values = loaded.features(images)
    handle.remove()
    rows = kept[0][:, loaded.model.num_prefix_tokens :]
    assert values.shape == (2, 2, 4, 192)
    np.testing.assert_allclose(values.reshape(2, 8, 192), rows.numpy(), rtol=0, atol=0)


def test_is_frozen_and_in_eval_mode() -> None:
    loaded = load_teacher(teacher(), CPU)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_untrained_weights_depend_on_the_seed_alone_and_are_said_loudly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(123)
    first = load_teacher(teacher(seed=5), CPU).weights_digest
    torch.manual_seed(456)
    before = torch.random.get_rng_state()
    assert load_teacher(teacher(seed=5), CPU).weights_digest == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert load_teacher(teacher(seed=6), CPU).weights_digest != first
    assert "is UNTRAINED: its weights are drawn from seed 5" in capsys.readouterr().err


def test_a_local_file_gives_its_own_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(9)
    model = timm.create_model(MODEL, num_classes=0, img_size=SIZE).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_teacher(teacher(weights=str(tmp_path / "weights.safetensors")), CPU)
    assert loaded.weights_digest == weights_digest(model)
    assert "licence apache-2.0" in capsys.readouterr().err


def test_the_original_authors_positions_are_theirs(tmp_path: Path) -> None:
    """DINO's way differs from timm's in the positions alone."""
    torch.manual_seed(9)
    native = timm.create_model("vit_small_patch16_224.dino", num_classes=0)
    torch.nn.init.normal_(native.pos_embed)
    save_file(native.state_dict(), tmp_path / "w.safetensors")
    choices = {"model": "dino_vits16", "weights": str(tmp_path / "w.safetensors")}
    timms = load_teacher(teacher(**choices), CPU).model.state_dict()
    originals = load_teacher(teacher(position_embedding="original", **choices), CPU).model.state_dict()
    assert [key for key in timms if not torch.equal(timms[key], originals[key])] == ["pos_embed"]
    wanted = resample_positions(native.pos_embed.detach()[:, 1:], (2, 4), "scale factor")
    assert torch.equal(originals["pos_embed"][:, 1:], wanted)
    assert torch.equal(originals["pos_embed"][:, :1], native.pos_embed[:, :1])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"model": "vit_tiny_patch16_225"},
            "neither the registry .* has a model .*near it: vit_tiny_patch16_224",
        ),
        ({"model": "dinov2_vitsl14"}, "near it: .*dinov2_vits14"),
        ({"model": "vit_small_patch14_dinov2.lvd143m"}, "of vit_small_patch14_dinov2 it has: .*lvd142m"),
        ({"model": "resnet18"}, "it is no ViT .*for which write `layer: stage N`"),
        ({"decode": "gpu"}, "and there is none here. .* write `decode: exact`"),
        ({"layer": "block 12"}, "has blocks 0 to 11; there is no `block 12`"),
        ({"layer": "last maskclip projected"}, "is no CLIP ViT: there is no `last maskclip projected`"),
        ({"model": "dinov3_vits16", "layer": "last keys"}, "has no one projection .*Write `layer: last`"),
        ({"model": "resnet18", "layer": "stage 9"}, "timm cannot read `stage 9` of resnet18"),
        ({"model": "resnet18", "layer": "stage 4", "image_size": (40, 64)}, "no grid of square patches"),
        ({"image_size": (40, 64)}, "cannot be built for images of 40 x 64|no grid|cannot take images"),
        ({"model": "vit_tiny_r_s16_p8_224", "image_size": (40, 64)}, "images of 40 x 64 pixels"),
    ],
)
def test_what_cannot_be_read_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_teacher(teacher(**choices), CPU)


def test_a_convnet_is_read_through_features_only(images: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(2)
    whole = timm.create_model("resnet18", num_classes=0).eval()
    save_file(whole.state_dict(), tmp_path / "r.safetensors")
    choices = {"model": "resnet18", "layer": "stage 2", "weights": str(tmp_path / "r.safetensors")}
    loaded = load_teacher(teacher(**choices), CPU)
    assert (loaded.patch, loaded.grid, loaded.channels) == (8, (4, 8), 128)
    x = (images - loaded.mean) / loaded.std
    with torch.no_grad():
        wanted = whole.layer2(whole.layer1(whole.maxpool(whole.act1(whole.bn1(whole.conv1(x))))))
    np.testing.assert_allclose(
        loaded.features(images), wanted.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-6
    )


def test_clips_own_colours_are_used(tmp_path: Path) -> None:
    loaded = load_teacher(teacher(model="vit_base_patch32_clip_quickgelu_224.openai"), CPU)
    assert loaded.mean.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_channels_that_are_projected_are_counted() -> None:
    loaded = load_teacher(teacher(model="maskclip_vitb16"), CPU)
    assert (loaded.channels, loaded.patch, loaded.grid) == (512, 16, (2, 4))


def test_a_standardisation_is_applied_and_is_of_one_teacher(images: torch.Tensor, tmp_path: Path) -> None:
    plain = teacher(storage="float32")
    resolved = plain.resolved()
    body = {
        "griddle": KIND,
        "teacher": {name: resolved[name] for name in MEASURED_FOR},
        "mean": [0.5] * 192,
        "deviation": [2.0] * 192,
    }
    write_json(tmp_path / "s.json", body)
    choice = {"standardise": str(tmp_path / "s.json")}
    raw = load_teacher(plain, CPU).features(images)
    standard = load_teacher(teacher(storage="float32", **choice), CPU).features(images)
    np.testing.assert_allclose(standard, (raw - 0.5) / 2.0, rtol=1e-6, atol=1e-6)
    with pytest.raises(BadInput, match="was measured for seed 0, the teacher has 1"):
        load_teacher(teacher(seed=1, **choice), CPU)


def test_other_weights_under_the_same_id_are_refused(tmp_path: Path) -> None:
    check_weights(tmp_path, tmp_path, "t-1", "aaaa")
    check_weights(tmp_path, tmp_path, "t-1", "aaaa")
    check_weights(tmp_path, tmp_path, "t-2", "bbbb")
    with pytest.raises(GriddleError, match="recorded aaaa\n  loaded   cccc"):
        check_weights(tmp_path, tmp_path, "t-1", "cccc")


def test_a_damaged_record_of_weights_is_named(tmp_path: Path) -> None:
    check_weights(tmp_path, tmp_path, "t-1", "aaaa")
    (tmp_path / "weights.lock.json").write_text('{"t-1": "aa')
    with pytest.raises(DamagedCache, match=r"weights\.lock\.json is damaged"):
        check_weights(tmp_path, tmp_path, "t-1", "aaaa")

"""The teacher: the layer that is read, where weights come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cache_schemas.errors import BadInput, GriddleError
from cache_schemas.publish import write_json
from pipeline.config.model import Teacher
from pipeline.teachers.standardise import KIND, MEASURED_FOR
from pipeline.teachers.vit import load_teacher, weights_digest
from pipeline.teachers.weights_lock import check_weights

CPU = torch.device("cpu")
MODEL, SIZE = "vit_tiny_patch16_224", (32, 64)


def teacher(**choices: object) -> Teacher:
    return Teacher.model_validate({"model": MODEL, "weights": "untrained", "image_size": SIZE, **choices})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_reads_the_last_block_before_the_final_norm(images: torch.Tensor) -> None:
    loaded = load_teacher(teacher(storage="float32"), CPU)
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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_gives_its_own_weights(images: torch.Tensor, tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(9)
    model = timm.create_model(MODEL, num_classes=0, img_size=SIZE).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    loaded = load_teacher(teacher(weights=str(path)), CPU)
    assert loaded.weights_digest == weights_digest(model)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(BadInput, match=r"cannot be loaded from .*other\.safetensors"):
        load_teacher(teacher(weights=str(path)), CPU)


def test_a_file_that_brings_code_is_refused(tmp_path: Path) -> None:
    class Intruder:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.mkdir, (tmp_path / "trap",)  # type: ignore[return-value]

    path = tmp_path / "bad.pth"
    torch.save({"weight": Intruder()}, path)
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_teacher(teacher(weights=str(path)), CPU)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("vit_tiny_patch16_225", "timm has no model"),
        ("resnet18", "it is no ViT"),
    ],
)
def test_a_model_that_is_no_teacher_is_refused(model: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_teacher(teacher(model=model), CPU)


def test_an_image_that_a_hybrid_cannot_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be built for images of 40 x 64 pixels"):
        load_teacher(teacher(model="vit_tiny_r_s16_p8_224", image_size=(40, 64)), CPU)


def test_values_that_do_not_fit_their_type_are_refused(images: torch.Tensor) -> None:
    loaded = load_teacher(teacher(), CPU)
    loaded.model.blocks[-1].mlp.fc2.bias.data[:] = 1e6
    with pytest.raises(BadInput, match="not finite in float16; write `storage: float32`"):
        loaded.features(images)


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

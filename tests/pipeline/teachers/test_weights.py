"""Where weights come from, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from cache_schemas.errors import BadInput
from pipeline.config.registry import REGISTRY
from pipeline.teachers.weights import load_weights, weights_digest

NAME = "vit_tiny_patch16_224"


def tiny(**more: Any) -> Any:
    return timm.create_model(
        NAME, num_classes=0, embed_dim=24, num_heads=3, depth=2, img_size=(32, 64), **more
    )


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(9)
    return tiny().state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_gives_its_own_weights(state: dict[str, torch.Tensor], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    model, other = tiny(), tiny()
    before = weights_digest(model)
    load_weights(model, str(path), None)
    assert weights_digest(model) != before
    other.load_state_dict(state)
    assert weights_digest(model) == weights_digest(other)


def test_the_first_difference_is_named_with_both_shapes(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wide = {**state, "blocks.1.mlp.fc1.weight": torch.zeros(7, 24)}
    save_file(wide, tmp_path / "w.safetensors")
    with pytest.raises(
        BadInput,
        match=r"1 of its \d+ tensors .*First: blocks\.1\.mlp\.fc1\.weight: the file has \(7, 24\), the model \(96, 24\)",
    ):
        load_weights(tiny(), str(tmp_path / "w.safetensors"), None)


def test_a_missing_and_a_foreign_tensor_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    cut = {key: value for key, value in state.items() if key != "norm.bias"}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match=r"First: norm\.bias: the file has no such tensor, the model \(24,\)"):
        load_weights(tiny(), str(tmp_path / "cut.safetensors"), None)
    more = {**state, "adapter.weight": torch.zeros(2, 3)}
    save_file(more, tmp_path / "more.safetensors")
    with pytest.raises(
        BadInput, match=r"First: adapter\.weight: the file has \(2, 3\), the model no such tensor"
    ):
        load_weights(tiny(), str(tmp_path / "more.safetensors"), None)


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    save_file({"stem.0.weight": torch.zeros(3, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match="does not hold the weights of vit_tiny_patch16_224"):
        load_weights(tiny(), str(tmp_path / "w.safetensors"), None)


def test_a_classifier_in_the_file_is_left_out(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(
        {**state, "head.weight": torch.zeros(10, 24), "head.bias": torch.zeros(10)},
        tmp_path / "w.safetensors",
    )
    load_weights(tiny(), str(tmp_path / "w.safetensors"), None)


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Intruder:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.mkdir, (tmp_path / "trap",)

    torch.save({"weight": Intruder()}, tmp_path / "bad.pth")
    with pytest.raises(
        BadInput, match=r"bad\.pth is not opened: it is no file of tensors alone, and could run code"
    ):
        load_weights(tiny(), str(tmp_path / "bad.pth"), None)
    assert not (tmp_path / "trap").exists()


def test_a_torchscript_archive_is_not_opened(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-16.pt"))
    with pytest.raises(
        BadInput, match=r"is a TorchScript archive, which can hold code(.|\n)*torch\.jit\.load"
    ):
        load_weights(tiny(), str(tmp_path / "ViT-B-16.pt"), None)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file of weights"):
        load_weights(tiny(), str(tmp_path / "none.pth"), None)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(BadInput, match="is no whole safetensors file"):
        load_weights(tiny(), str(tmp_path / "cut.safetensors"), None)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BadInput, match="holds no state dict"):
        load_weights(tiny(), str(tmp_path / "list.pth"), None)


def test_a_file_with_a_published_digest_must_have_it(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save(state, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    row = replace(REGISTRY["dinov3_vits16"], file="published.pth", sha256=found[:8], sha256_source="a page")
    load_weights(tiny(), str(path), row)
    with pytest.raises(
        BadInput, match=rf"has SHA-256 {found}; the published file of that name has 0123abcd \(a page\)"
    ):
        load_weights(tiny(), str(path), replace(row, sha256="0123abcd"))


def test_without_a_network_the_file_to_bring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", refuse)
    with pytest.raises(BadInput) as caught:
        load_weights(tiny(), "hub", REGISTRY["dino_vits8"])
    said = str(caught.value)
    assert "Temporary failure in name resolution" in said
    assert "download model.safetensors from https://huggingface.co/timm/vit_small_patch8_224.dino" in said
    assert "(or the original authors' dino_deitsmall8_pretrain.pth)" in said
    assert "`weights: /path/to/model.safetensors`" in said


def test_a_revision_reaches_the_hub(state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def give(where: str, **choices: object) -> dict[str, torch.Tensor]:
        assert choices["weights_only"] is True
        asked.append(where)
        return dict(state)

    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", give)
    load_weights(tiny(), "hub@abc", None)
    load_weights(tiny(), "hub", None)
    assert [where.rpartition("@")[2] for where in asked] == ["abc", asked[1]]

"""The network inside a training's file is taken whole, with the values and the id of its plain file, or the file is refused
with what to do: never with other values."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from cache_schemas.errors import BadInput
from pipeline.common.weights_likeness import likeness
from pipeline.plan.teacher_weights import _read as id_of_file
from pipeline.teachers.weights import load_weights, weights_digest

State = dict[str, Tensor]
WIDTH, DEPTH = 24, 4
SEED, SPOILT = 20, 150


def network(**more: Any) -> Any:
    choices = {
        "num_classes": 0,
        "embed_dim": WIDTH,
        "num_heads": 3,
        "depth": DEPTH,
        "img_size": (28, 56),
        **more,
    }
    return timm.create_model("vit_small_patch14_dinov2", pretrained=False, **choices).eval()


def draw(seed: int) -> State:
    """A network's tensors by its authors' names, each value another."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(value.shape, generator=generator) for name, value in network().state_dict().items()
    }
    return {**state, "mask_token": torch.zeros(1, WIDTH)}


PLAIN, OTHER = draw(1), draw(2)
HEADS = {
    f"{head}.mlp.{number}.weight": torch.ones(3, 3)
    for head in ("dino_head", "ibot_head")
    for number in (0, 2)
}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def chunked(state: State) -> State:
    """As DINOv2's trainings name blocks in chunks: which chunk, and the block's number in the network."""
    names = {
        name: f"blocks.{int(name.split('.')[1]) // 2}.{name.removeprefix('blocks.')}"
        if "blocks" in name
        else name
        for name in state
    }
    return {names[name]: value for name, value in state.items()}


def in_transformers(state: State) -> State:
    """By the names of transformers' Dinov2Model."""
    renamed: State = {}
    plain = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
    }
    for name, value in state.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("blocks.", "encoder.layer.").replace("attn.proj", "attention.output.dense")
        name = name.replace("ls1.gamma", "layer_scale1.lambda1").replace("ls2.gamma", "layer_scale2.lambda1")
        name = f"layernorm.{name[5:]}" if name.startswith("norm.") else plain.get(name, name)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            renamed[name] = value
    return renamed


def wrapped(state: State) -> State:
    return {name.replace("attn.", "_checkpoint_wrapped_module.attn."): value for name, value in state.items()}


FORMS: dict[str, Any] = {
    "several GPUs": under("module.", PLAIN),
    "compiled": under("_orig_mod.", PLAIN),
    "compiled on several GPUs": under("module._orig_mod.", PLAIN),
    "wrapped inside": wrapped(PLAIN),
    "DINOv2's teacher": {"teacher": {**under("backbone.", PLAIN), **HEADS}},
    "in chunks": {"teacher": {**under("backbone.", chunked(PLAIN)), **HEADS}},
    "in chunks alone": chunked(PLAIN),
    "student and teacher": {
        "model": {
            **under("student.backbone.", OTHER),
            **under("teacher.backbone.", PLAIN),
            **under("teacher.", HEADS),
            "dino_loss.center": torch.zeros(1, 3),
        },
        "iteration": 3,
    },
    "student and teacher in chunks": {
        **under("student.backbone.", chunked(OTHER)),
        **under("teacher.backbone.", chunked(PLAIN)),
    },
    "DINO's": {
        "student": under("module.backbone.", OTHER),
        "teacher": {**under("backbone.", PLAIN), "head.mlp.0.weight": torch.ones(2, 2)},
        "optimizer": {"state": {0: {"step": 3}}},
    },
    "Lightning": {
        "state_dict": {**under("model.", PLAIN), "model.classifier.weight": torch.ones(2, WIDTH)},
        "epoch": 3,
    },
    "Lightning's teacher": {
        "state_dict": {**under("student_backbone.vit.", OTHER), **under("teacher_backbone.vit.", PLAIN)}
    },
    "with its average": {**under("model.", OTHER), **under("ema.module.", PLAIN)},
    "its average beside it": {"model": OTHER, "model_ema": PLAIN},
    "its average in another state": {"state_dict": OTHER, "state_dict_ema": PLAIN},
    "a teacher within": {"teacher": {"model": PLAIN}, "model": OTHER},
    "one of two": {"student": under("module.backbone.", PLAIN)},
    "MAE's decoder": {
        "model": {**PLAIN, "decoder_embed.weight": torch.ones(2, 2), "decoder_pos_embed": torch.ones(1)}
    },
    "transformers": in_transformers(PLAIN),
    "transformers' classifier": {
        **under("dinov2.", in_transformers(PLAIN)),
        "classifier.weight": torch.ones(2, 48),
    },
}


def save(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def loaded(path: Path) -> Any:
    model = network()
    load_weights(model, str(path), None)
    return model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """The network of the plain file, and the file's id."""
    path = save(PLAIN, tmp_path_factory.mktemp("plain") / "w.pth")
    return loaded(path), id_of_file(path)


@pytest.mark.parametrize("form", list(FORMS))
def test_the_same_values_and_the_same_id(
    form: str, plain: tuple[Any, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = FORMS[form]
    paths = [save(content, tmp_path / "w.pth")]
    if all(isinstance(value, Tensor) for value in content.values()):
        paths.append(save(content, tmp_path / "w.safetensors"))
    images = torch.randn(2, 3, 28, 56, generator=torch.Generator().manual_seed(5))
    for path in paths:
        model = loaded(path)
        assert weights_digest(model) == weights_digest(plain[0])
        with torch.inference_mode():
            assert torch.equal(model.forward_features(images), plain[0].forward_features(images))
        assert id_of_file(path) == plain[1]
    said = capfd.readouterr().err
    averaged = form in (
        "student and teacher",
        "student and teacher in chunks",
        "DINO's",
        "Lightning's teacher",
        "with its average",
        "its average beside it",
        "its average in another state",
        "a teacher within",
    )
    assert ("the moving average" in said) == averaged
    more = averaged or form in (
        "DINOv2's teacher",
        "in chunks",
        "Lightning",
        "MAE's decoder",
        "transformers' classifier",
    )
    assert ("left out: " in said) == more


@pytest.mark.parametrize("kind", [torch.int8, torch.bool])
def test_quantised_weights_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    """Their scales are not in the file: as they are, they are other values."""
    state = {name: (value * 10).to(kind) for name, value in PLAIN.items()}
    with pytest.raises(BadInput, match=r"tensors are of another kind. First: .*: the file has torch\."):
        loaded(save(state, tmp_path / "w.pth"))


def test_what_was_taken_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded(save(FORMS["student and teacher"], tmp_path / "w.pth"))
    said = " ".join(capfd.readouterr().err.split())
    assert (
        f"weights of vit_small_patch14_dinov2 from {tmp_path / 'w.pth'}: the {len(PLAIN)} tensors under "
        f"`model.teacher.backbone.`, the moving average; not taken: the network under `model.student.backbone.`; "
        f"left out: model.student ({len(PLAIN)}), model.teacher (4), "
        f"model.dino_loss (1)"
    ) in said
    loaded(save(PLAIN, tmp_path / "plain.pth"))
    assert not capfd.readouterr().err


def restarted(state: State) -> State:
    """Chunks that count their blocks anew: which block is which is not in the names."""
    names = {
        name: f"blocks.{int(name.split('.')[1]) // 2}.{int(name.split('.')[1]) % 2}.{name.split('.', 2)[2]}"
        if "blocks" in name
        else name
        for name in state
    }
    return {names[name]: value for name, value in state.items()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**under("first.", PLAIN), **under("second.", OTHER)}, r"holds 2 networks \(`first\.`, `second\.`\).*take one out"),
        ({**under("ema.a.", PLAIN), **under("teacher.", OTHER)}, "holds 2 networks"),
        (restarted(PLAIN), r"are both its blocks\.\d.*save the state_dict\(\) of the network alone"),
        ({**under("module.", PLAIN), **PLAIN}, "two tensors are its"),
        ({**PLAIN, "blocks.0.attn.lora_A": torch.ones(2, 2)}, r"adapters \(LoRA\).*merge"),
        ({**PLAIN, "adapter.weight": torch.ones(2, 2)}, "First: adapter.weight"),
        ({"a.flat_param": torch.ones(9)}, "FSDP: gather the whole weights"),
        ({"vision_model.embeddings.patch_embedding.weight": torch.ones(9)}, "transformers' CLIP or SigLIP"),
        (under("student.", {"layer1.0.conv1.weight": torch.ones(2)}), "a ResNet: name such a model"),
        ({**PLAIN, "patch_embed.proj.weight": torch.ones(WIDTH, 3, 16, 16)}, "patches of 16 x 16 pixels, the model .* 14 x 14"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused_with_what_to_do(content: State, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"(?s){words}"):
        loaded(save(content, tmp_path / "w.pth"))


def spoil(content: State, chance: random.Random) -> State:
    """A file with one thing wrong: a tensor gone, twice, of another shape, of another block, or not known."""
    names, state = list(content), dict(content)
    name = chance.choice(names)

    def drop() -> None:
        del state[name]

    def double() -> None:
        state[chance.choice(("backbone.", "module.", "_orig_mod.", "teacher.")) + name] = state[name] + 1

    def cut() -> None:
        state[name] = state[name].flatten()[1:]

    def misplace() -> None:
        state[name.replace("blocks.0", "blocks.9").replace("norm", "norms")] = state.pop(name)

    def add() -> None:
        state[f"{name.rpartition('.')[0]}.extra"] = torch.ones(2)

    chance.choice((drop, double, cut, misplace, add))()
    return state


def test_a_spoilt_file_is_refused_or_gives_the_plain_values(plain: tuple[Any, str], tmp_path: Path) -> None:
    """150 files, seed 20."""
    chance, refused = random.Random(SEED), 0
    forms: list[Callable[[], State]] = [
        lambda: under("teacher.backbone.", chunked(PLAIN)) | under("student.backbone.", OTHER),
        lambda: under("backbone.", PLAIN) | HEADS,
        lambda: in_transformers(PLAIN),
        lambda: under("module.", PLAIN),
    ]
    for _ in range(SPOILT):
        path = save(spoil(chance.choice(forms)(), chance), tmp_path / "w.pth")
        try:
            model = loaded(path)
        except BadInput:
            refused += 1
            continue
        assert weights_digest(model) == weights_digest(plain[0])
    assert refused > SPOILT // 3


def test_real_networks_of_transformers_compute_the_same(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shared = {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
    }
    images = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(5))
    config = transformers.Dinov2Config(mlp_ratio=4, **shared)
    for build in (transformers.Dinov2Model, transformers.Dinov2ForImageClassification):
        theirs = build(config).eval()
        path = save(theirs.state_dict(), tmp_path / "w.safetensors")
        ours = network(embed_dim=96, num_heads=4, depth=3, img_size=56)
        load_weights(ours, str(path), None)
        with torch.inference_mode():
            expected = getattr(theirs, "dinov2", theirs)(images).last_hidden_state
            torch.testing.assert_close(ours.forward_features(images), expected)


def test_a_file_of_nothing_known_looks_like_nothing() -> None:
    assert likeness(["weight", "bias"]) == ""

"""Every row says what timm says, and what a config writes finds its row."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError

from pipeline.config.layer import parse_layer
from pipeline.config.model import Teacher
from pipeline.config.model_names import channels, patch_size
from pipeline.config.registry import REGISTRY, Row, row_of
from pipeline.plan.identity import teacher_id, teacher_identity
from pipeline.teachers.reading import reader_of


@pytest.fixture(params=list(REGISTRY))
def row(request: pytest.FixtureRequest) -> Row:
    return REGISTRY[request.param]


def test_a_row_agrees_with_timms_configuration(row: Row) -> None:
    cfg: Any = timm.models.get_pretrained_cfg(row.model)
    assert cfg is not None
    assert (cfg.mean, cfg.std) == (row.mean, row.std)
    assert cfg.license == row.licence
    assert cfg.hf_hub_id == row.hub
    if row.file and cfg.url:
        assert cfg.url.rsplit("/", 1)[1] == row.file


def test_a_row_agrees_with_the_network(row: Row) -> None:
    """Built without memory: shapes alone."""
    with torch.device("meta"):
        if parse_layer(row.layer).where == "stage":
            number = parse_layer(row.layer).number
            model: Any = timm.create_model(row.model, features_only=True, out_indices=(number,))
            assert model.feature_info.channels() == [row.channels]
            assert model.feature_info.reduction() == [row.patch]
            return
        model = timm.create_model(row.model)
        assert model.patch_embed.patch_size == (row.patch, row.patch)
        width = model.num_features
        if row.layer == "last keys":
            width = model.blocks[-1].attn.qkv.out_features // 3
        if row.layer.endswith("projected"):
            width = model.head.out_features
        assert width == row.channels
        reader_of(model, parse_layer(row.layer), row.name)
        assert (model.pos_embed is None) == (row.resample is None)


def test_a_digest_has_its_source(row: Row) -> None:
    assert bool(row.sha256) == bool(row.sha256_source)
    assert not row.sha256 or row.file


def test_before_timm_is_imported_the_same_is_known(row: Row) -> None:
    assert patch_size(row.name, row.layer) == patch_size(row.model, row.layer) == row.patch
    assert channels(row.name, row.layer) == channels(row.model, row.layer) == row.channels


def test_both_names_of_a_model_give_one_id(row: Row) -> None:
    ids = {teacher_id(teacher_identity(Teacher(model=name))) for name in (row.name, row.model)}
    assert len(ids) == 1
    other = Teacher(model=row.name, layer="block 0 values" if row.patch != 32 else "stage 1")
    assert teacher_id(teacher_identity(other)) not in ids


def test_a_revision_is_identity() -> None:
    first, second, third = (
        teacher_identity(Teacher(model="mae_vitb16", weights=w)) for w in ("hub", "hub@abc", "hub@abd")
    )
    assert first["weights"] == {"hub": "timm/vit_base_patch16_224.mae", "revision": None}
    assert second["weights"]["revision"] == "abc"
    assert len({teacher_id(i) for i in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("final", "names no layer; write `last`"),
        ("block x", "names no layer"),
        ("last key", "names no layer"),
        ("stage 3 keys", "a stage of a convnet has no keys; write `stage 3`"),
        ("block 3 maskclip", "maskclip is read at the last block; write `last maskclip`"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(layer: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Teacher(model="dino_vits8", layer=layer)


@pytest.mark.parametrize(
    "text", ["last", "last keys", "block 3", "block 0 values", "stage 2", "last maskclip projected"]
)
def test_layers_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_layer(text)) == text


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model": "dinov3_vits16"}, "has no position embeddings to resample"),
        ({"model": "vit_tiny_patch16_224"}, "is in no row of the registry"),
        ({"model": "dino_vits8", "weights": "untrained"}, "nothing is resampled"),
    ],
)
def test_an_original_way_that_does_not_exist_is_refused(choices: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Teacher(position_embedding="original", **choices)  # type: ignore[arg-type]


def test_a_name_that_is_in_no_row() -> None:
    assert row_of("vit_tiny_patch16_224") is None
    assert Teacher(model="vit_tiny_patch16_224").layer == "last"

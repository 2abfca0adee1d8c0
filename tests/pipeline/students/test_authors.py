"""Names and shapes of the authors' state dicts, both ways, for every network that was released."""

from __future__ import annotations

import pytest
import torch
from authors_state import their_shapes, their_state

from cache_schemas.errors import BadInput
from pipeline.students.authors import describe, from_authors, their_name, to_authors

PUBLISHED = {  # facts of the released files: tensors in all
    "ScaLR": ((768, 48, "layer", "linear", 1024), 695),
    "ScaLR+": ((768, 48, "layer", "mlp", 1024), 697),
    "batch norm 96": ((96, 48, "batch", "linear", 1024), 983),
    "batch norm 256": ((256, 48, "batch", "linear", 1024), 983),
    "batch norm 384": ((384, 48, "batch", "linear", 1024), 983),
    "ScaLR, probed or finetuned": ((768, 48, "layer", "classes", 16), 700),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_recognised(name: str) -> None:
    (width, depth, norm, head, out), tensors = PUBLISHED[name]
    shapes = their_shapes(width, depth, norm, head, out)
    assert len(shapes) == tensors
    found = describe(shapes)
    assert (found.width, found.depth, found.norm, found.head, found.out) == (width, depth, norm, head, out)
    assert found.head_width == (2048 if head == "mlp" else None)


def test_parameters_of_the_published_networks() -> None:
    def millions(*network: object) -> float:
        counted = ("weight", "bias")
        shapes = their_shapes(*network)  # type: ignore[arg-type]
        return sum(torch.Size(s).numel() for n, s in shapes.items() if n.endswith(counted)) / 1e6

    assert millions(768, 48, "layer", "linear", 1024) == pytest.approx(60.22, abs=0.005)
    assert millions(768, 48, "layer", "mlp", 1024) == pytest.approx(63.11, abs=0.005)
    backbone = millions(384, 48, "batch", "linear", 1024) - (384 * 1024 + 1024) / 1e6
    assert backbone == pytest.approx(15.12, abs=0.005)


@pytest.mark.parametrize(
    "network",
    [
        (8, 3, "layer", "linear", 6),
        (8, 3, "batch", "linear", 6),
        (8, 3, "layer", "mlp", 6, 12),
        (8, 3, "batch", "classes", 4),
    ],
)
def test_there_and_back(network: tuple[int, int, str, str, int]) -> None:
    state = their_state(*network)
    found = describe({name: tuple(value.shape) for name, value in state.items()})
    ours = from_authors(state, found)
    back = to_authors(ours, found.head)
    assert set(back) == set(state)
    for name, value in state.items():
        assert torch.equal(back[name], value), name
        assert back[name].shape == value.shape, name
    assert len({value.data_ptr() for value in ours.values()}) == len(state)


def test_each_tensor_lands_where_it_acts() -> None:
    pairs = {
        "backbone.embedding.point.bias": "embed.conv1.bias",
        "backbone.embedding.neighbour_norm.running_var": "embed.conv2.0.running_var",
        "backbone.embedding.neighbour_in.weight": "embed.conv2.1.weight",
        "backbone.embedding.neighbour_hidden_norm.weight": "embed.conv2.2.weight",
        "backbone.embedding.neighbour_out.weight": "embed.conv2.4.weight",
        "backbone.embedding.merge.weight": "embed.final.weight",
        "backbone.spatial_mix.2.conv_out.weight": "waffleiron.spatial_mix.2.ffn.2.weight",
        "backbone.spatial_mix.11.scale": "waffleiron.spatial_mix.11.scale.weight",
        "backbone.channel_mix.2.linear_in.bias": "waffleiron.channel_mix.2.mlp.0.bias",
        "backbone.channel_mix.2.norm.weight": "waffleiron.channel_mix.2.norm.weight",
    }
    for ours, theirs in pairs.items():
        assert their_name(ours, "linear") == theirs
    assert their_name("head.linear.bias", "linear") == "classif.bias"
    assert their_name("head.linear_out.weight", "mlp") == "classif.2.weight"
    assert their_name("probe.norm.running_mean", "classes") == "classif.0.running_mean"
    with pytest.raises(KeyError):
        their_name("head.linear.bias", "mlp")


def broken(**changes: tuple[int, ...] | None) -> str:
    shapes = their_shapes(8, 3, "layer", "linear", 6)
    for name, shape in changes.items():
        shapes.pop(name.replace("__", "."))
        if shape is not None:
            shapes[name.replace("__", ".")] = shape
    with pytest.raises(BadInput) as caught:
        describe(shapes)
    return str(caught.value)


def test_what_does_not_fit_together_is_named() -> None:
    said = broken(waffleiron__channel_mix__1__mlp__0__bias=None)
    assert "WaffleIron of width 8, depth 3, layer norm, with a head to a teacher's 6 channels" in said
    assert "1 tensor(s) missing (waffleiron.channel_mix.1.mlp.0.bias)" in said
    said = broken(waffleiron__spatial_mix__2__ffn__0__weight=(9, 1, 3, 3))
    assert "waffleiron.spatial_mix.2.ffn.0.weight is (9, 1, 3, 3) and should be (8, 1, 3, 3)" in said
    assert "no tensor embed.final.weight" in broken(embed__final__weight=None)
    assert "no head" in broken(classif__weight=None)
    assert "no map of points" in broken(embed__final__weight=(8,))


def test_layers_by_the_billion_are_not_built() -> None:
    shapes = their_shapes(8, 1, "layer", "linear", 6)
    shapes["waffleiron.channel_mix.999999999.norm.weight"] = (8,)
    with pytest.raises(BadInput, match="numbered up to 999999999"):
        describe(shapes)


def test_numbers_that_are_not_finite_are_named() -> None:
    state = their_state(8, 1, "layer", "linear", 6)
    state["embed.final.bias"][3] = torch.nan
    found = describe({name: tuple(value.shape) for name, value in state.items()})
    with pytest.raises(BadInput, match=r"embed.final.bias holds numbers that are not finite"):
        from_authors(state, found)

"""The counts of a layer and of the embedding, against what torch's operations read and write, and keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton")

from benchmarks.gpu.counts import Laid, kernels
from benchmarks.gpu.datasheets import PRECISIONS, Count
from benchmarks.gpu.kernels import written_down
from benchmarks.gpu.layer_counts import embedding_launched, embedding_least, kept, launched, least
from pipeline.students import neighbour_max, triton_mix
from pipeline.students.embedding import Embedding
from pipeline.students.sparse_plane import SparsePlane, sparse_plane
from pipeline.students.waffleiron import ChannelMix, SpatialMix

WIDTH = 256
SIDE = 64
PRECISE = ("float32", "bfloat16")
NO_WORK = ("empty", "new_ones", "detach", "_unsafe_view", "promote_types")


class Moved(TorchDispatchMode):
    """Sums the bytes that operations read and write; what is seen again under another name costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view and not any(word in str(function) for word in NO_WORK):
            read = {id(leaf): leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
            written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
            self.bytes += sum(_bytes(tensor) for tensor in (*read.values(), *written))
        return out


class Layer(nn.Module):
    """One layer, by our kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = SpatialMix(WIDTH, "layer", "relu", None)
        self.channel = ChannelMix(WIDTH, "layer", "relu", None, packed=True)

    def forward(self, rows: Tensor, plane: SparsePlane) -> Tensor:
        out: Tensor = self.channel(self.spatial(rows, plane, None, triton_mix.TRITON), None)
        return out


def batch(points: int, cells: int) -> tuple[Tensor, SparsePlane, Laid]:
    """Points on a few cells of a plane, and their rows."""
    plane = sparse_plane(
        torch.arange(points) % cells * 3, torch.zeros(points).long(), (1, SIDE, SIDE), torch.float32
    )
    laid = Laid(points, plane.table.shape[1], plane.back.shape[1] - 1)
    return torch.randn(points, WIDTH, requires_grad=True), plane, laid


@pytest.mark.parametrize("precision", PRECISE)
@pytest.mark.parametrize("backward", [False, True])
def test_a_layers_operations_move_what_is_counted(precision: str, backward: bool) -> None:
    """Those that are not kernels of ours: `test_gpu_counts.py` has these. By differences, so that each size is seen."""
    torch.manual_seed(0)
    layer = Layer()
    sizes, found, counted = ((600, 40), (1200, 40), (600, 160)), [], []
    for points, cells in sizes:
        rows, plane, laid = batch(points, cells)
        inputs, direction = [rows, *layer.parameters()], torch.ones(points, WIDTH)
        with written_down(), Moved() as counter:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                out = layer(rows, plane)
            if backward:
                torch.autograd.grad(out, inputs, direction)
        ours = kernels(laid, WIDTH, 4)
        operations = launched(laid, WIDTH, PRECISIONS[precision], backward)
        found.append(counter.bytes)
        counted.append(sum(count.bytes for name, count in operations.items() if name not in ours))
    assert counted[0] == pytest.approx(found[0], rel=0.02)
    for other in (1, 2):
        assert counted[other] - counted[0] == pytest.approx(found[other] - found[0], rel=0.01)


@pytest.mark.parametrize("precision", PRECISE)
def test_a_layer_keeps_what_is_counted(precision: str) -> None:
    found, counted = [], []
    layer = Layer()
    for points, cells in ((600, 40), (1200, 40), (600, 160)):
        rows, plane, laid = batch(points, cells)
        held: dict[int, int] = {}

        def hold(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            if tensor.is_floating_point():
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with written_down(), torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                out = layer(rows, plane)
            held.pop(rows.untyped_storage().data_ptr())
            held.pop(out.untyped_storage().data_ptr(), None)
        found.append(sum(held.values()))
        counted.append(kept(laid, WIDTH, PRECISIONS[precision]))
    assert counted[1] - counted[0] == pytest.approx(found[1] - found[0], rel=0.01)
    # torch's means keep more of the occupied cells than they must: sums, and what their scale is multiplied with
    assert found[2] - found[0] >= counted[2] - counted[0]


def test_products_of_a_layer() -> None:
    rows, plane, laid = batch(600, 40)
    layer = Layer()
    with written_down(), FlopCounterMode(display=False) as counter:
        layer(rows, plane).sum().backward()
    assert least(laid, WIDTH, PRECISIONS["float32"]).matrix == counter.get_total_flops()


@pytest.mark.parametrize("precision", PRECISE)
def test_the_embedding(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: all points at once, every neighbour on the way back. One batch of points against another."""
    monkeypatch.setitem(neighbour_max.BLOCK_ELEMENTS, "cpu", 1 << 25)
    monkeypatch.setattr(neighbour_max, "_backward_of_givers", neighbour_max._backward_of_all)
    embedding = Embedding(5, WIDTH, blocks=True)
    found, products, sums, fewest = [], [], [], []
    for points in (400, 800):
        features = torch.randn(points, 5)
        neighbours = torch.randint(0, points, (points, 16))
        direction = torch.ones(points, WIDTH)
        with FlopCounterMode(display=False) as flops, Moved() as counter:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                out = embedding(features, neighbours)
            torch.autograd.grad(out, list(embedding.parameters()), direction.to(out.dtype))
        found.append(counter.bytes)
        products.append(flops.get_total_flops())
        sums.append(sum(embedding_launched(points, WIDTH, PRECISIONS[precision]), Count()))
        fewest.append(embedding_least(points, WIDTH, PRECISIONS[precision]))
    assert sums[1].bytes - sums[0].bytes == pytest.approx(found[1] - found[0], rel=0.03)
    assert sums[1].matrix - sums[0].matrix == pytest.approx(products[1] - products[0], rel=0.01)
    assert fewest[1].bytes < sums[1].bytes
    assert fewest[1].matrix < sums[1].matrix


def _bytes(tensor: Tensor) -> int:
    """Of its different places."""
    places = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places *= size if stride else 1
    return places * tensor.element_size()

"""The fast student against the readable one: the same outputs, gradients and running statistics, to rounding,
wherever the points lie; and the same bits every time."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu.odd_clouds import CASES, SHAPES, cloud_at, scattered
from benchmarks.gpu.small_students import DEPTH, WIDTH, assert_same, double, make_student, results
from pipeline.students import neighbour_max as neighbour_max_module
from pipeline.students import sparse_mix as sparse_mix_module
from pipeline.students.backends import Backend
from pipeline.students.embedding import Embedding
from pipeline.students.neighbour_max import neighbour_max
from pipeline.students.packed import Cloud, pack
from pipeline.students.sparse_mix import Activation, sparse_mix
from pipeline.students.sparse_plane import SparsePlane, sparse_plane
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import Norm

torch.set_num_threads(1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("case", CASES)
def test_the_fast_student_is_the_reference(
    case: str, norm: Norm, activation: Activation, training: bool
) -> None:
    clouds = double(pack(CASES[case]()))
    found, expected = (
        results(make_student(backend, norm, activation).train(training), clouds)
        for backend in ("torch", "reference")
    )
    assert_same(found, expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_with_dropped_residuals(norm: Norm) -> None:
    clouds = double(pack(CASES["unequal"]()))
    drop = masks(0, 0, [5, 6, 7], DEPTH, 0.5)
    assert 0 < (drop == 0).sum() < drop.numel()
    found, expected = (
        results(make_student(backend, norm).train(), clouds, drop) for backend in ("torch", "reference")
    )
    assert_same(found, expected)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_batch_without_points(backend: Backend) -> None:
    clouds = double(pack([scattered(0, 0), scattered(0, 1)]))
    found = results(make_student(backend).eval(), clouds)
    assert found["output"].shape == (0, WIDTH)
    assert all(not value.any() for name, value in found.items() if "gradient" in name)


def test_float32_agrees_to_its_own_rounding() -> None:
    clouds = pack([scattered(200, seed) for seed in range(3)])
    single = dataclasses.replace(clouds, features=clouds.features.clone().requires_grad_())
    found = results(make_student("torch").float().train(), single)
    expected = results(make_student("reference").train(), double(clouds))
    for name, value in expected.items():
        difference = (found[name] - value).abs().max().item()
        assert difference <= 2e-5 * max(1.0, value.abs().max().item()), name


def test_under_autocast_no_worse_than_the_reference() -> None:
    clouds = pack([scattered(200, seed) for seed in range(3)])
    exact = make_student("reference").eval()(double(clouds))
    errors = {}
    for backend in ("torch", "reference"):
        student = make_student(backend).float().eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = student(clouds)
        assert out.dtype == torch.float32
        out.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
        errors[backend] = (out - exact).norm() / exact.norm()
    assert errors["torch"] <= 1.1 * errors["reference"] < 0.1


def test_parameters_are_the_same() -> None:
    fast, plain = make_student("torch"), make_student("reference")
    assert {k: v.shape for k, v in fast.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    fast.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="backend must be one of"):
        make_student("dense")  # type: ignore[arg-type]


def test_the_same_bits_twice() -> None:
    clouds = pack([scattered(300, seed) for seed in range(4)])
    single = dataclasses.replace(clouds, features=clouds.features.clone().requires_grad_())
    first, second = (results(make_student("torch").float().train(), single) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def plane_of(clouds: list[Cloud], shape: tuple[int, int] = SHAPES[0]) -> SparsePlane:
    packed = pack(clouds)
    return sparse_plane(packed.cells[:, 0], packed.cloud_of_row(), (packed.count, *shape), torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_the_tables_by_their_definition(case: str) -> None:
    """Against a walk over cells in plain Python."""
    clouds, (height, width) = CASES[case](), SHAPES[0]
    plane = plane_of(clouds)
    rows = [(b, *divmod(int(cell), width)) for b, cloud in enumerate(clouds) for cell in cloud.cells[:, 0]]
    occupied = sorted(set(rows))
    taps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    around = {
        (o, u): (b, y + dy, x + dx)
        for o, (b, y, x) in enumerate(occupied)
        for u, (dy, dx) in enumerate(taps)
        if 0 <= y + dy < height and 0 <= x + dx < width
    }
    dilated = sorted(set(around.values()))
    assert [occupied[o] for o in plane.cell] == rows
    for o, (start, stop) in enumerate(zip(plane.starts, plane.starts[1:], strict=False)):
        assert plane.order[start:stop].tolist() == [i for i, row in enumerate(rows) if row == occupied[o]]
        assert plane.weight[o].item() == 1 / (int(stop - start) + 1e-6)
    for u, column in enumerate(plane.table.tolist()):
        for o, d in enumerate(column):
            assert d == (dilated.index(around[o, u]) if (o, u) in around else len(dilated))
    bounds = plane.mirror_starts.tolist()
    assert len(bounds) == len(dilated) + 2
    assert bounds[-2] == bounds[-1] == len(plane.mirror) == len(around)
    for d, cell in enumerate(dilated):
        pairs = [divmod(pair, 9) for pair in plane.mirror[bounds[d] : bounds[d + 1]].tolist()]
        assert pairs == sorted(pair for pair, reached in around.items() if reached == cell)


@pytest.mark.parametrize("norm_of", [nn.LayerNorm, nn.BatchNorm1d])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_gradcheck(activation: Activation, norm_of: type[nn.Module]) -> None:
    torch.manual_seed(0)
    plane = plane_of([cloud_at(np.array([[0], [1], [1], [7], [29]]).repeat(3, 1)), scattered(3, 1)])
    conv_in, conv_out = (nn.Conv2d(3, 3, 3, padding=1, groups=3).double() for _ in range(2))
    norm = norm_of(3).double()
    features = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([2.0] * 5 + [0.5] * 3)
    parameters = [*norm.parameters(), *conv_in.parameters(), *conv_out.parameters()]

    def mix(features: Tensor, scale: Tensor, *_: Tensor) -> Tensor:
        return sparse_mix(features, norm, plane, conv_in, conv_out, scale, activation, mask)

    assert torch.autograd.gradcheck(mix, (features, scale, *parameters))


def test_channels_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = double(pack(CASES["borders and corners"]()))
    whole = results(make_student("torch"), clouds)
    monkeypatch.setitem(sparse_mix_module.AT_ONCE, "cpu", 9 * 60 * 2)
    assert_same(results(make_student("torch"), clouds), whole)


@pytest.mark.parametrize("block_elements", [1, 3 * WIDTH, 1 << 17])
def test_neighbours_in_blocks(block_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(neighbour_max_module.BLOCK_ELEMENTS, "cpu", block_elements)
    monkeypatch.setattr(neighbour_max_module, "HIDDEN_ELEMENTS", 16 * block_elements)
    clouds = double(pack(CASES["unequal"]()))
    found, expected = (results(make_student(backend).train(), clouds) for backend in ("torch", "reference"))
    assert_same(found, expected)


def test_neighbour_max_gradcheck_and_equals() -> None:
    torch.manual_seed(0)
    draw = partial(torch.randn, dtype=torch.float64, requires_grad=True)
    rows, weight_in, bias_in, weight_out = draw(2, 3, 4), draw(5, 2), draw(5), draw(5, 5)
    assert torch.autograd.gradcheck(neighbour_max, (rows, weight_in, bias_in, weight_out))
    # a point whose neighbours are all one and the same: the first takes the gradient, as torch.max has it
    same = rows.detach()[:, :1].expand(2, 3, 4).contiguous().requires_grad_()
    neighbour_max(same, weight_in, bias_in, weight_out).sum().backward()
    assert same.grad is not None
    assert same.grad[:, 1:].eq(0).all()


@pytest.mark.parametrize("dtype", neighbour_max_module.SUMMED)
def test_both_ways_back_from_the_neighbours_maximum(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows, bias_in = torch.randn(5, 16, 300, dtype=dtype), torch.randn(24, dtype=dtype)
    rows[:, 9] = rows[:, 4]  # equal neighbours
    given = (rows, torch.randn(24, 5, dtype=dtype), bias_in, torch.randn(24, 24, dtype=dtype))
    out = neighbour_max(*(tensor.clone().requires_grad_() for tensor in given))
    saved, grad = out.grad_fn.saved_tensors, torch.randn(300, 24, dtype=dtype)  # type: ignore[union-attr]
    of_all = neighbour_max_module._backward_of_all(grad, *saved)
    of_givers = neighbour_max_module._backward_of_givers(grad, *saved)
    for found, expected in zip(of_givers, of_all, strict=True):
        assert found.shape == expected.shape
        found, expected = found.double(), expected.double()
        assert (found - expected).norm() < 30 * torch.finfo(dtype).eps * expected.norm()


def test_blocks_refuse_other_norms() -> None:
    embedding = Embedding(5, WIDTH, blocks=True)
    embedding.neighbour_norm = nn.SyncBatchNorm(5)  # type: ignore[assignment]
    clouds = pack([scattered(6, 0)])
    with pytest.raises(TypeError, match="BatchNorm1d"):
        embedding(clouds.features, clouds.neighbours)

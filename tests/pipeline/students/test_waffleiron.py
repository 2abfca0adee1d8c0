"""The packed student against a dense, padded WaffleIron written here from the paper, layer by layer."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.geometry.grid import Grid
from pipeline.students.packed import Cloud, PackedClouds, pack
from pipeline.students.stochastic_depth import masks
from pipeline.students.waffleiron import Activation, Norm, WaffleIron

torch.set_num_threads(1)

GRID = Grid.with_cells((-3.0, -2.0, -1.0), (3.0, 2.0, 1.0), 0.5)  # planes of (12, 8), (12, 4), (8, 4) cells
WIDTH, DEPTH, NEIGHBOURS = 8, 4, 5


def make_cloud(points: int, seed: int) -> Cloud:
    """Random points, some in crowded cells, some in the corners of the field of view."""
    rng = np.random.default_rng(seed)
    low, high = np.array(GRID.low) + 2e-4, np.array(GRID.high) - 2e-4
    xyz = rng.uniform(low, high, (points, 3))
    xyz[: points // 3] = rng.uniform(0.0, 0.3, (points // 3, 3))
    xyz[-4:] = [low, high, [low[0], high[1], low[2]], [high[0], low[1], high[2]]]
    distance = np.linalg.norm(xyz[:, None] - xyz, axis=2)
    return Cloud(
        features=np.column_stack([rng.normal(size=points), xyz, np.linalg.norm(xyz, axis=1)]).astype(
            np.float32
        ),
        neighbours=distance.argsort(axis=1)[:, 1 : NEIGHBOURS + 1],
        cells=GRID.cells(xyz),
    )


def make_student(norm: Norm = "layer", activation: Activation = "relu", **options: Any) -> WaffleIron:
    """A student in float64 with nothing left at a special value: norms, running statistics, scales."""
    torch.manual_seed(0)
    student = WaffleIron(
        width=WIDTH, depth=DEPTH, plane_shapes=GRID.shapes, norm=norm, activation=activation, **options
    ).double()
    for name, tensor in student.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return student


def double(clouds: PackedClouds) -> PackedClouds:
    """The same clouds with float64 features that require a gradient."""
    return dataclasses.replace(clouds, features=clouds.features.double().requires_grad_())


class DenseReference:
    """WaffleIron on (B, C, N) with zero padding, as published, with the tensors of a student of ours."""

    def __init__(self, student: WaffleIron, norm: Norm, activation: Activation) -> None:
        buffers = {name: value.clone() for name, value in student.named_buffers()}
        self.p = dict(student.named_parameters()) | buffers
        self.training = student.training
        self.layer_norm = norm == "layer"
        self.activation = F.gelu if activation == "gelu" else F.relu
        self.moved: dict[str, Tensor] = {}

    def __call__(self, clouds: PackedClouds, drop: Tensor | None = None) -> Tensor:
        feats, neighbours, cells, occupied = pad(clouds)
        x = self.embed(feats, neighbours)  # (B, C, N)
        for d in range(DEPTH):
            factors = (
                torch.ones(len(x), 2, dtype=x.dtype) if drop is None else drop[:, d].to(x.dtype)
            )  # (B, 2)
            x = x + factors[:, 0, None, None] * self.spatial(d, x, cells[:, d % 3], occupied)
            x = x + factors[:, 1, None, None] * self.channel(d, x)
        return torch.cat([row[:, :size].T for row, size in zip(x, clouds.sizes(), strict=True)])

    def embed(self, feats: Tensor, neighbours: Tensor) -> Tensor:
        x = self.batch_norm("embedding.norm", feats)  # (B, 5, N)
        point = F.conv1d(x, self.p["embedding.point.weight"][..., None], self.p["embedding.point.bias"])
        near = torch.stack([row[:, index] for row, index in zip(x, neighbours, strict=True)])  # (B, 5, N, K)
        y = self.batch_norm("embedding.neighbour_norm", near - x[..., None])
        y = F.conv2d(y, self.p["embedding.neighbour_in.weight"][..., None, None])
        y = F.relu(self.batch_norm("embedding.neighbour_hidden_norm", y))
        y = F.conv2d(y, self.p["embedding.neighbour_out.weight"][..., None, None]).amax(3)  # (B, C, N)
        merge = self.p["embedding.merge.weight"][..., None]
        return F.conv1d(torch.cat((point, y), 1), merge, self.p["embedding.merge.bias"])

    def spatial(self, d: int, x: Tensor, cells: Tensor, occupied: Tensor) -> Tensor:
        name, (height, width) = f"spatial_mix.{d}", GRID.shapes[d % 3]
        hit = F.one_hot(cells, height * width).to(x.dtype) * occupied[..., None]  # (B, N, H W)
        mean = self.norm(f"{name}.norm", x) @ hit / (hit.sum(1, keepdim=True) + 1e-6)  # (B, C, H W)
        image = mean.unflatten(2, (height, width))
        image = F.conv2d(
            image, self.p[f"{name}.conv_in.weight"], self.p[f"{name}.conv_in.bias"], 1, 1, 1, WIDTH
        )
        image = F.conv2d(
            self.activation(image),
            self.p[f"{name}.conv_out.weight"],
            self.p[f"{name}.conv_out.bias"],
            1,
            1,
            1,
            WIDTH,
        )
        scaled = image.flatten(2) * self.p[f"{name}.scale"][:, None]  # (B, C, H W)
        return scaled.gather(2, cells[:, None].expand(-1, WIDTH, -1))

    def channel(self, d: int, x: Tensor) -> Tensor:
        name = f"channel_mix.{d}"
        y = self.norm(f"{name}.norm", x)
        y = F.conv1d(y, self.p[f"{name}.linear_in.weight"][..., None], self.p[f"{name}.linear_in.bias"])
        y = F.conv1d(
            self.activation(y),
            self.p[f"{name}.linear_out.weight"][..., None],
            self.p[f"{name}.linear_out.bias"],
        )
        return y * self.p[f"{name}.scale"][:, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        if not self.layer_norm:
            return self.batch_norm(name, x)
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-5).sqrt() * self.p[f"{name}.weight"][:, None] + self.p[f"{name}.bias"][
            :, None
        ]

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = self.p[f"{name}.running_mean"].clone(), self.p[f"{name}.running_var"].clone()
        out = F.batch_norm(
            x, mean, var, self.p[f"{name}.weight"], self.p[f"{name}.bias"], self.training, 0.1, 1e-5
        )
        self.moved |= {f"{name}.running_mean": mean, f"{name}.running_var": var}
        return out


def pad(clouds: PackedClouds) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """features (B, 5, N), neighbours (B, N, K), cells (B, planes, N), occupied (B, N), as the authors pad."""
    longest, dtype = int(clouds.sizes().max()), clouds.features.dtype
    columns: list[list[Tensor]] = [[], [], [], []]
    for start, stop in spans(clouds):
        extra = longest - (stop - start)
        neighbours = clouds.neighbours[start:stop] - start
        columns[0].append(F.pad(clouds.features[start:stop], (0, 0, 0, extra)).T)
        columns[1].append(F.pad(neighbours, (0, 0, 0, extra), value=longest - 1))
        columns[2].append(F.pad(clouds.cells[start:stop], (0, 0, 0, extra)).T)
        columns[3].append(F.pad(torch.ones(stop - start, dtype=dtype), (0, extra)))
    feats, neighbours, cells, occupied = (torch.stack(column) for column in columns)
    return feats, neighbours, cells, occupied


def spans(clouds: PackedClouds) -> Iterator[tuple[int, int]]:
    return itertools.pairwise(clouds.offsets.tolist())


def assert_same(
    student: WaffleIron, reference: DenseReference, clouds: PackedClouds, drop: Tensor | None
) -> None:
    """Outputs, and gradients of the input and of every parameter, agree to 1e-12 of the largest value."""
    names = ["features", *(name for name, _ in student.named_parameters())]
    leaves = [clouds.features, *student.parameters()]
    ours, theirs = student(clouds, drop), reference(clouds, drop)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours_grad = torch.autograd.grad((ours * direction).sum(), leaves)
    theirs_grad = torch.autograd.grad((theirs * direction).sum(), leaves)
    assert_near(ours, theirs, "output")
    for name, a, b in zip(names, ours_grad, theirs_grad, strict=True):
        assert_near(a, b, f"gradient of {name}")


def assert_near(a: Tensor, b: Tensor, what: str) -> None:
    limit = 1e-12 * max(1.0, b.abs().max().item())
    difference = (a - b).abs().max().item()
    assert difference <= limit, f"{what}: differs by {difference:.1e}, allowed {limit:.1e}"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_equal_clouds_match_the_dense_reference(norm: Norm, activation: Activation, training: bool) -> None:
    student = make_student(norm, activation).train(training)
    clouds = double(pack([make_cloud(40, seed) for seed in range(3)]))
    assert_same(student, DenseReference(student, norm, activation), clouds, None)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_unequal_clouds_match_the_dense_reference(norm: Norm) -> None:
    student = make_student(norm).eval()
    clouds = double(pack([make_cloud(points, points) for points in (31, 12, 50)]))
    assert_same(student, DenseReference(student, norm, "relu"), clouds, None)


def test_layers_in_training_and_embedding_in_evaluation_match() -> None:
    """With LayerNorm only the embedding has statistics: the layers may train on clouds of unequal size."""
    student = make_student("layer", drop_path=0.5).train()
    student.embedding.eval()
    reference = DenseReference(student, "layer", "relu")
    reference.training = False
    clouds = double(pack([make_cloud(points, points) for points in (31, 12, 50)]))
    drop = masks(0, 0, [5, 6, 7], DEPTH, 0.5)
    assert 0 < (drop == 0).sum() < drop.numel()
    assert_same(student, reference, clouds, drop)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_padding_enters_the_statistics_of_the_embedding_as_published(backend: str, drop_path: float) -> None:
    """In training, on clouds of unequal size: outputs, gradients and running statistics."""
    student = make_student("layer", padding_aware=True, backend=backend, drop_path=drop_path).train()
    clouds = double(pack([make_cloud(points, points) for points in (31, 12, 50)]))
    reference = DenseReference(student, "layer", "relu")
    assert_same(student, reference, clouds, masks(0, 0, [5, 6, 7], DEPTH, 0.5) if drop_path else None)
    assert len(reference.moved) == 6
    for name, expected in reference.moved.items():
        assert_near(student.get_buffer(name), expected, name)


def test_statistics_are_of_the_points_alone_unless_asked_for() -> None:
    clouds = double(pack([make_cloud(points, points) for points in (31, 12, 50)]))
    real, padded = (make_student("layer", padding_aware=aware).train() for aware in (False, True))
    one, other = real(clouds), padded(clouds)
    assert (one - other).abs().max() > 0.1
    assert not torch.allclose(real.embedding.norm.running_mean, padded.embedding.norm.running_mean)
    equal = double(pack([make_cloud(31, seed) for seed in (1, 2)]))
    assert torch.equal(make_student().train()(equal), make_student(padding_aware=True).train()(equal))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_cloud_does_not_feel_its_batch(norm: Norm) -> None:
    student = make_student(norm).eval()
    singles = [make_cloud(points, points) for points in (31, 12, 50)]
    together = double(pack(singles))
    drop = masks(0, 0, [5, 6, 7], DEPTH, 0.5)
    whole = student(together, drop)
    for i, (single, (start, stop)) in enumerate(zip(singles, spans(together), strict=True)):
        assert_near(student(double(pack([single])), drop[i : i + 1]), whole[start:stop], f"cloud {i}")


def test_an_empty_cloud_in_the_batch_changes_nothing() -> None:
    student = make_student().eval()
    first, last = make_cloud(12, 0), make_cloud(20, 1)
    empty = Cloud(*(getattr(first, field.name)[:0] for field in dataclasses.fields(Cloud)))
    with_empty, without = double(pack([first, empty, last])), double(pack([first, last]))
    assert_near(student(with_empty), student(without), "output")


def test_dropped_layers_leave_the_embedding() -> None:
    student = make_student(drop_path=0.5).train()
    clouds = double(pack([make_cloud(20, 0), make_cloud(20, 1)]))
    drop = torch.ones(2, DEPTH, 2)
    drop[1] = 0
    out = student(clouds, drop)
    embedded = student.embedding(clouds.features, clouds.neighbours)
    assert torch.equal(out[20:], embedded[20:])
    assert not torch.allclose(out[:20], embedded[:20])


def test_initial_values_have_the_published_distributions() -> None:
    torch.manual_seed(0)
    student = WaffleIron(width=256, depth=2, plane_shapes=GRID.shapes)
    bounds = {  # all uniform: half the width is 1 / sqrt(fan in)
        "embedding.point.weight": 5**-0.5,
        "embedding.point.bias": 5**-0.5,
        "embedding.neighbour_in.weight": 5**-0.5,
        "embedding.neighbour_out.weight": 1 / 16,
        "embedding.merge.weight": 512**-0.5,
        "spatial_mix.0.conv_in.weight": 1 / 3,
        "spatial_mix.1.conv_out.bias": 1 / 3,
        "spatial_mix.1.scale": 1.0,
        "channel_mix.0.linear_in.weight": 1 / 16,
        "channel_mix.1.linear_out.bias": 1 / 16,
        "channel_mix.0.scale": 1.0,
    }
    for name, bound in bounds.items():
        values = student.get_parameter(name)
        assert values.abs().max().item() <= bound, name
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.15), name
    constant = WaffleIron(width=8, depth=1, plane_shapes=GRID.shapes, layer_scale=0.1)
    assert constant.spatial_mix[0].scale.eq(0.1).all()
    assert constant.channel_mix[0].scale.eq(0.1).all()


def test_number_of_parameters_of_the_published_widths() -> None:
    shapes = Grid().shapes
    for width, norm, millions in ((96, "batch", 1.04), (256, "batch", 6.84), (768, "layer", 59.44)):
        with torch.device("meta"):
            student = WaffleIron(width=width, depth=48, plane_shapes=shapes, norm=norm)
        assert sum(p.numel() for p in student.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_wrong_calls_are_refused() -> None:
    clouds = double(pack([make_cloud(12, 0)]))
    with pytest.raises(ValueError, match="norm must be one of"):
        make_student("group")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation must be one of"):
        make_student(activation="tanh")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        make_student(drop_path=1.0)
    with pytest.raises(ValueError, match="needs stochastic_depth"):
        make_student(drop_path=0.2).train()(clouds)
    with pytest.raises(ValueError, match=r"masks have shape \(2, 4, 2\), expected \(1, 4, 2\)"):
        make_student()(clouds, torch.ones(2, DEPTH, 2))
    with pytest.raises(ValueError, match="2 planes, the student mixes 3"):
        make_student()(dataclasses.replace(clouds, cells=clouds.cells[:, :2]))

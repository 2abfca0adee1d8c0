"""Equation 1 against its naive form, and its gradient where the norm has none."""

import pytest
import torch

from pipeline.losses.distillation import distillation_loss, feature_distance, losses_of_parts

torch.set_num_threads(1)


def test_loss_is_the_mean_of_unsquared_distances() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(20, 7, dtype=torch.float64), torch.randn(20, 7, dtype=torch.float64) * 30
    naive = 0.0
    for f, g in zip(student, teacher, strict=True):
        f, g = f / (f * f).sum().sqrt(), g / (g * g).sum().sqrt()
        naive += ((f - g) ** 2).sum().sqrt().item() / 20
    assert distillation_loss(student, [teacher]).item() == pytest.approx(naive, rel=1e-13)


def test_range_and_scale() -> None:
    f = torch.tensor([[3.0, 0.0], [0.0, 0.1], [1.0, 1.0]])
    g = torch.tensor([[0.5, 0.0], [0.0, -9.0], [-1.0, 1.0]])
    torch.testing.assert_close(feature_distance(f, [g]), torch.tensor([0.0, 2.0, 2**0.5]))


def test_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    student = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, [teacher]), student)


@pytest.mark.parametrize("sizes", [(6,), (4, 3)])
def test_gradient_equals_that_of_the_formula_written_out(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    student = torch.randn(12, sum(sizes), dtype=torch.float64)
    teachers = [torch.randn(12, size, dtype=torch.float64) for size in sizes]
    student[0] = 0  # no direction at all
    student[1] *= 1e-14  # too short to be normalised
    student[2] *= 1e14
    teachers[0][3] = 0
    student[4] = torch.cat([teacher[4] for teacher in teachers]) * 3 + 1e-7  # nearly where it should be
    weight = torch.rand(12, dtype=torch.float64)

    def formula(rows: torch.Tensor) -> torch.Tensor:
        parts = rows.split(sizes, dim=1)
        apart = [
            p / p.norm(dim=1, keepdim=True).clamp_min(1e-12)
            - t / t.norm(dim=1, keepdim=True).clamp_min(1e-12)
            for p, t in zip(parts, teachers, strict=True)
        ]
        return torch.cat(apart, dim=1).norm(dim=1)

    rows = [student.clone().requires_grad_() for _ in range(2)]
    for found, of in zip((feature_distance(rows[0], teachers), formula(rows[1])), rows, strict=True):
        (found * weight).sum().backward()
        assert of.grad is not None
    torch.testing.assert_close(feature_distance(student, teachers), formula(student), rtol=1e-14, atol=0)
    size = student.norm(dim=1, keepdim=True).clamp_min(1e-12)  # a gradient is at most 1 over this
    torch.testing.assert_close(rows[0].grad * size, rows[1].grad * size, rtol=0, atol=1e-9)


def test_gradient_is_zero_where_the_directions_are_equal() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(6, 8)
    student = teacher.clone()
    student[3:] += 1e-7 * torch.randn(3, 8)  # nearly equal rows must not blow up either
    student[5] = torch.randn(8)
    student.requires_grad_()
    distillation_loss(student, [teacher]).backward()
    assert student.grad is not None
    assert student.grad[:3].eq(0).all()
    assert student.grad.isfinite().all()
    assert (student.grad.norm(dim=1) <= 1.001 / 6 / student.detach().norm(dim=1)).all()
    assert student.grad[5].norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(20, 64).to(dtype), torch.randn(20, 64).to(dtype)
    expected = distillation_loss(student.float(), [teacher.float()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distillation_loss(student, [teacher])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_no_points_and_wrong_shapes() -> None:
    empty = torch.empty(0, 8, requires_grad=True)
    loss = distillation_loss(empty, [torch.empty(0, 8)])
    loss.backward()
    assert loss.item() == 0.0
    with pytest.raises(ValueError, match=r"student has shape \(2, 3\), its teachers \[\(3, 3\)\]"):
        distillation_loss(torch.ones(2, 3), [torch.ones(3, 3)])


def test_several_teachers_stand_side_by_side_each_normalised() -> None:
    student, first, second = (torch.randn(50, size, dtype=torch.float64) for size in (12, 8, 4))
    f = torch.cat(
        [torch.nn.functional.normalize(part, dim=1) for part in student.split([8, 4], dim=1)], dim=1
    )
    g = torch.cat([torch.nn.functional.normalize(part, dim=1) for part in (first, 100 * second)], dim=1)
    wanted = (f - g).square().sum(dim=1).sqrt().mean()
    torch.testing.assert_close(distillation_loss(student, [first, second]), wanted, rtol=1e-13, atol=0)
    parts = losses_of_parts(student, [first, second])
    own = [
        distillation_loss(s, [t]) for s, t in zip(student.split([8, 4], dim=1), (first, second), strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts), torch.stack(own), rtol=1e-13, atol=0)


def test_parts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"student has shape \(2, 9\), its teachers \[\(2, 8\), \(2, 4\)\]"):
        distillation_loss(torch.ones(2, 9), [torch.ones(2, 8), torch.ones(2, 4)])

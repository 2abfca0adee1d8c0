"""Lovasz-softmax against two definitions of the Lovasz extension that need no algorithm."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.losses.lovasz import IGNORE, lovasz_softmax, segmentation_loss

torch.set_num_threads(1)


def jaccard_loss(wrong: frozenset[int], members: frozenset[int]) -> float:
    """1 - |hit| / |union| of one class when exactly the points in `wrong` are got wrong."""
    hit = len(members - wrong)
    union = len(members | wrong)
    return 1 - hit / union


def errors_of(probabilities: Tensor, labels: Tensor, c: int) -> tuple[list[float], frozenset[int]]:
    members = frozenset((labels == c).nonzero().flatten().tolist())
    errors = [1 - p if i in members else p for i, p in enumerate(probabilities[:, c].tolist())]
    return errors, members


def by_all_orders(errors: list[float], members: frozenset[int]) -> float:
    """The extension of a submodular set function is the largest of its greedy sums over all orders."""
    best = -float("inf")
    for order in permutations(range(len(errors))):
        wrong: frozenset[int] = frozenset()
        total = 0.0
        for i in order:
            total += errors[i] * (jaccard_loss(wrong | {i}, members) - jaccard_loss(wrong, members))
            wrong |= {i}
        best = max(best, total)
    return best


def by_thresholds(errors: list[float], members: frozenset[int]) -> float:
    """The extension is the integral over t of the set function of the points whose error reaches t."""
    total, below = 0.0, 0.0
    for level in sorted(set(errors)):
        wrong = frozenset(i for i, error in enumerate(errors) if error >= level)
        total += (level - below) * jaccard_loss(wrong, members)
        below = level
    return total


def random_case(seed: int, points: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.randint(0, classes - 1, (points,))  # the last class never occurs
    return torch.randn(points, classes, dtype=torch.float64).mul(2).softmax(1), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("definition", [by_all_orders, by_thresholds])
def test_value_by_definition(definition: object, seed: int) -> None:
    probabilities, labels = random_case(seed)
    expected = [definition(*errors_of(probabilities, labels, c)) for c in labels.unique().tolist()]  # type: ignore[operator]
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(
        sum(expected) / len(expected), rel=1e-12
    )


def test_equal_errors() -> None:
    probabilities = torch.tensor(
        [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.8, 0.2]], dtype=torch.float64
    )
    labels = torch.tensor([0, 0, 1, 1, 0])
    expected = sum(by_thresholds(*errors_of(probabilities, labels, c)) for c in (0, 1)) / 2
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(expected, rel=1e-12)


def test_best_and_worst_predictions() -> None:
    labels = torch.tensor([0, 1, 1, 2])
    assert lovasz_softmax(F.one_hot(labels, 3).double(), labels).item() == 0.0
    assert lovasz_softmax(F.one_hot((labels + 1) % 3, 3).double(), labels).item() == pytest.approx(1.0)


def test_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 1, IGNORE, 2, 0, 0, 1])
    assert torch.autograd.gradcheck(lambda x: segmentation_loss(x, labels), logits)


def test_sum_of_both_and_ignored_points() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 5, dtype=torch.float64), torch.randint(0, 5, (50,))
    labels[::3] = IGNORE
    kept = labels != IGNORE
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    lovasz = lovasz_softmax(logits[kept].softmax(1), labels[kept])
    torch.testing.assert_close(segmentation_loss(logits, labels), entropy + lovasz)
    torch.testing.assert_close(segmentation_loss(logits, labels, lovasz_weight=0.0), entropy)
    torch.testing.assert_close(
        segmentation_loss(logits[kept], labels[kept]), segmentation_loss(logits, labels)
    )


def test_no_labelled_point_gives_zero_with_a_gradient() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((4,), IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_short_types_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 5).bfloat16(), torch.randint(0, 5, (30,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = segmentation_loss(logits, labels)
    torch.testing.assert_close(found, segmentation_loss(logits.float(), labels), rtol=0, atol=0)

"""The loss of probes and finetuning: cross-entropy plus Lovasz-softmax (Berman et al., CVPR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
"""Label of a point that has none."""


def segmentation_loss(logits: Tensor, labels: Tensor, lovasz_weight: float = 1.0) -> Tensor:
    """Cross-entropy, averaged over the labelled points, plus `lovasz_weight` times Lovasz-softmax.

    logits: (P, classes), any float type. labels: (P,) int64 in [0, classes) or IGNORE.
    Returns a scalar, at least float32; 0, with gradient 0, where no point is labelled.
    """
    labelled = labels != IGNORE  # (P,)
    logits, labels = logits[labelled], labels[labelled]  # (L, classes), (L,)
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if not len(labels):
            return logits.sum()
        log_probabilities = logits.log_softmax(dim=1)  # (L, classes)
        lovasz = lovasz_softmax(log_probabilities.exp(), labels)
        return F.nll_loss(log_probabilities, labels) + lovasz_weight * lovasz


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Lovasz-softmax over the classes present in the batch, all clouds of the batch taken together.

    For each such class c, the error of a point is 1 - p_c where its label is c, and p_c elsewhere; the loss
    is the Lovasz extension of the Jaccard loss of c at these errors, averaged over the classes (equations 8
    to 11). One sort over (classes, points) serves all classes.

    probabilities: (P, classes), rows that sum to 1. labels: (P,) int64 in [0, classes), none ignored, P > 0.
    Returns a scalar of the type of the probabilities.
    """
    present = torch.bincount(labels, minlength=probabilities.shape[1]).nonzero()  # (c, 1)
    truth = labels == present  # (c, P) bool
    errors = (truth.to(probabilities.dtype) - probabilities.t()[present.squeeze(1)]).abs()  # (c, P)
    return (errors * _jaccard_steps(truth, errors.detach())).sum() / len(present)


def _jaccard_steps(truth: Tensor, errors: Tensor) -> Tensor:
    """What each point adds to the Jaccard loss of its row when points are got wrong by falling error.

    truth: (c, P) bool, which points belong to the class; at least one in each row. errors: (c, P) >= 0.
    Returns (c, P), the gradient of the Lovasz extension (Berman et al., algorithm 1). Each step is written
    out, and not taken as a difference of two losses near 1, which would lose its digits in float32.
    """
    # the bits of floats that are not negative are ordered as the floats are, and integers sort faster
    bits = errors.view(torch.int32 if errors.itemsize == 4 else torch.int64)  # (c, P)
    order = bits.argsort(dim=1, descending=True)  # (c, P)
    ordered = truth.gather(1, order)  # (c, P) bool
    missed = ordered.cumsum(dim=1, dtype=torch.int32)  # (c, P) points of the class among the first i + 1
    extra = torch.arange(1, truth.shape[1] + 1, dtype=torch.int32, device=truth.device) - missed  # (c, P)
    members = missed[:, -1:]  # (c, 1)
    hit = (members - missed).to(errors.dtype)  # (c, P) intersection once this point is wrong
    union = (members + extra).to(errors.dtype)  # (c, P)
    # a point of the class takes 1 from the intersection; any other point adds 1 to the union
    steps = torch.where(ordered, 1 / union, hit / (union * (union - 1).clamp(min=1)))  # (c, P)
    return torch.empty_like(steps).scatter_(1, order, steps)

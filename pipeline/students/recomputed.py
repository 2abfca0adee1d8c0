"""Activation checkpointing: a part of a student that keeps only what went in, and is computed again on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(part: nn.Module, run: Callable[..., Tensor], *inputs: object) -> Tensor:
    """run(*inputs), which is `part`, computed again in the backward: the same numbers, less memory, more time.

    `part` draws nothing at random. Running statistics of its norms move once, in the forward.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_at_rest(part)

    out: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return out


@contextmanager
def _statistics_at_rest(part: nn.Module) -> Iterator[None]:
    """Norms in training normalise by the batch, as before, but leave their running statistics alone."""
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked

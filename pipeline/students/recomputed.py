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
    """Norms in training move copies of their running statistics, which are then forgotten."""
    norms = [m for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    own = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)

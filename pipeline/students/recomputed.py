"""Activation checkpointing: parts of a student that keep only what went in, and are computed again on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(parts: Sequence[nn.Module], run: Callable[..., Tensor], *inputs: object) -> Tensor:
    """run(*inputs), which is made of `parts`, computed again in the backward: the same numbers, less memory, more time.

    The parts draw nothing at random. Running statistics of their norms move once, in the forward.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_at_rest(parts)

    out: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return out


@contextmanager
def _statistics_at_rest(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Norms in training move copies of their running statistics, which are then forgotten."""
    modules = [module for part in parts for module in part.modules()]
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
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

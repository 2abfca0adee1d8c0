"""The steps of a training: backward pass and optimiser in the precision of the config, and the state for a checkpoint.

`float16` does what ScaLR's `--fp16` does: autocast to float16, and a gradient scaler. A step whose gradients overflow changes
no weight and halves the scale. For the schedule of rates it counts as a step, as in the published code. It is counted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache_schemas.errors import GriddleError
from pipeline.config.training import Precision
from pipeline.training import checkpoint as checkpoints
from pipeline.training.checkpoint import Checkpoint

SMALLEST_SCALE = 2.0**-16
"""Gradients that overflow float16 at this scale would overflow at any. From 2^16 it is reached after 32 skipped steps in a row."""

_SHORT = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: Precision, device: str) -> torch.autocast:
    """The forward pass runs in it. device: its type, `cpu` or `cuda`."""
    return torch.autocast(device, dtype=_SHORT.get(precision, torch.bfloat16), enabled=precision != "float32")


class Stepping:
    """A model in training, with its optimiser.

    Attributes:
        skipped: how many steps changed nothing because their gradients overflowed; None if no step can be skipped.
    """

    def __init__(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, precision: Precision, device: torch.device
    ) -> None:
        self._model, self._optimiser = model, optimiser
        # If it is not enabled, it changes no bit of what it is given.
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.skipped: int | None = 0 if self._scaler.is_enabled() else None

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss; earlier ones are dropped."""
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()

    def step(self) -> None:
        """Change the weights. In float16 this is skipped if a gradient is not finite.

        Raises:
            GriddleError: if no scale makes them finite.
        """
        before = self._scaler.get_scale()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self.skipped is None or self._scaler.get_scale() >= before:
            return
        self.skipped += 1
        if before <= SMALLEST_SCALE:
            raise GriddleError(
                f"the gradients overflow float16 even when they are scaled by {before:.1e}: the last steps, {self.skipped} "
                f"in all, were skipped, and nothing is learnt. Write `precision: bfloat16`, or `precision: float32`."
            )

    def resume(self, folder: Path, run_id: str) -> int:
        """Go on from the newest checkpoint in `folder`; the number of steps that are done."""
        state = checkpoints.load_newest(folder, run_id)
        if state is None:
            return 0
        self._model.load_state_dict(state.model)
        self._optimiser.load_state_dict(state.optimiser)
        if self.skipped is not None and state.scaler is not None:
            self._scaler.load_state_dict(state.scaler["state"])
            self.skipped = state.scaler["skipped"]
        return state.step

    def save(self, folder: Path, run_id: str, step: int) -> None:
        """Write a checkpoint after so many steps."""
        scaler: dict[str, Any] | None = None
        if self.skipped is not None:
            scaler = {"state": self._scaler.state_dict(), "skipped": self.skipped}
        weights, moments = self._model.state_dict(), self._optimiser.state_dict()
        checkpoints.save(folder, Checkpoint(run_id, step, weights, moments, scaler))

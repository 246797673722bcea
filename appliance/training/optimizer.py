"""AdamW over the flat buffers of a model: two moments, decoupled decay on matrices only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.training.config import RunConfig
from appliance.training.layout import Buffer, Layout
from kernels import Backend

EPSILON = 1e-8  # AdamW's ε (Loshchilov & Hutter 2019); the denominator's floor


class AdamW:
    """Moments of one model. `update` is the only thing that changes parameters."""

    def __init__(self, layout: Layout, backend: Backend, dtype: npt.DTypeLike = np.float32) -> None:
        self._layout, self._backend = layout, backend
        self.first = Buffer(layout, backend, dtype)
        self.second = Buffer(layout, backend, dtype)

    def update(
        self,
        parameters: Buffer,
        gradients: Buffer,
        run: RunConfig,
        *,
        step: int,
        learning_rate: float,
        norm: float,
    ) -> None:
        """Apply one step; gradients longer than `run.clip` (norm is their length) are shortened to it."""
        scale = min(1.0, run.clip / norm) if norm > 0.0 else 1.0
        matrices = self._layout.matrices
        for span, decay in ((slice(0, matrices), run.weight_decay), (slice(matrices, None), 0.0)):
            self._backend.adamw_step(
                parameters.flat[span],
                self.first.flat[span],
                self.second.flat[span],
                gradients=gradients.flat[span],
                step=step,
                learning_rate=learning_rate,
                beta1=run.beta1,
                beta2=run.beta2,
                epsilon=EPSILON,
                weight_decay=decay,
                gradient_scale=scale,
            )

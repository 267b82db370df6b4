"""The learning rate: linear warm-up, then a cosine down to a floor."""

from __future__ import annotations

import math

from rla_exp.config.schema import OptimConfig


def lr_factor(step: int, config: OptimConfig, max_steps: int) -> float:
    """What multiplies `optim.lr` in the optimizer step with index `step` (from 0).

    Rises to 1 in step warmup_steps - 1; from step warmup_steps on it follows a cosine that starts at 1 and reaches
    min_lr_ratio at index max_steps, one past the last step.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return config.min_lr_ratio + (1.0 - config.min_lr_ratio) * cosine

"""Every model learns an easy recall: shapes alone prove nothing."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from rla_exp.config.schema import ModelName
from rla_exp.models import build_model

VOCAB_SIZE = 16
NUM_PAIRS = 4


def _mqar(batch_size: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """k1 v1 ... k4 v4, then the four keys in any order; the values that the keys ask for."""
    half = VOCAB_SIZE // 2
    keys = 1 + torch.rand(batch_size, half - 1, generator=generator).argsort(-1)[:, :NUM_PAIRS]
    values = half + torch.rand(batch_size, half, generator=generator).argsort(-1)[:, :NUM_PAIRS]
    order = torch.rand(batch_size, NUM_PAIRS, generator=generator).argsort(-1)
    context = torch.stack([keys, values], dim=-1).flatten(1)
    return torch.cat([context, keys.gather(1, order)], dim=1), values.gather(1, order)


@pytest.mark.slow
@pytest.mark.parametrize("name", get_args(ModelName))
def test_every_model_learns_recall(model_config, name):
    """Guessing one of the four values gets 0.25."""
    model = build_model(model_config(name), VOCAB_SIZE, seed=0)
    # without a convolution, finding the token before takes a smaller step
    lr = 3e-3 if name in ("transformer", "retnet") else 1e-2
    optimizer = torch.optim.AdamW(model.parameter_groups(0.1), lr=lr, betas=(0.9, 0.95))
    generator = Generator().manual_seed(0)
    smoothed = 0.0
    for step in range(400):
        tokens, answers = _mqar(32, generator)
        logits = model.head(model.hidden(tokens)[:, -NUM_PAIRS:])
        smoothed = 0.8 * smoothed + 0.2 * (logits.argmax(-1) == answers).float().mean().item()
        if smoothed > 0.96:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), answers.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        tokens, answers = _mqar(256, Generator().manual_seed(1))
        accuracy = (model(tokens)[:, -NUM_PAIRS:].argmax(-1) == answers).float().mean().item()
    assert accuracy > 0.9

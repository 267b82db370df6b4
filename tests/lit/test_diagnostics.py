"""Diagnostics, against the same numbers computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rla_exp.config import Composed
from rla_exp.kernels import linear_attention
from rla_exp.lit import train_run
from rla_exp.lit.callbacks.diagnostics import first_sequences, layer_diagnostics
from rla_exp.lit.scored import ScoredBatch
from rla_exp.models import build_model
from rla_exp.runs import RunFolder

LAYER = ("decay", "beta", "gamma")


def test_numbers_of_a_layer(make_run: Callable[..., Composed]) -> None:
    config = make_run(model={"clip": 0.02}).config
    model = build_model(config.model, 32, 0)
    tokens = torch.randint(32, (4, 16), generator=torch.Generator().manual_seed(0))
    values = layer_diagnostics(model, tokens, None)
    assert set(values) == {
        f"diag/layer{layer}/{name}"
        for layer in (0, 1)
        for name in (
            *(f"{gate}_{statistic}" for gate in LAYER for statistic in ("mean", "std")),
            *("residual_norm", "share_clipped", "S_norm", "R_norm", "activation_max"),
        )
    }
    call = model.operator_calls(tokens)["blocks.0.mixer"]
    assert values["diag/layer0/decay_mean"] == pytest.approx(call["g"].exp().mean().item())
    assert values["diag/layer0/beta_std"] == pytest.approx(call["beta"].std().item())
    _, (S, R) = linear_attention(**{**call, "output_final_state": True, "backend": "recurrent"})
    assert values["diag/layer0/S_norm"] == pytest.approx(S.flatten(2).norm(dim=-1).mean().item(), rel=1e-4)
    assert values["diag/layer0/R_norm"] == pytest.approx(R.flatten(2).norm(dim=-1).mean().item(), rel=1e-4)
    assert 0.0 < values["diag/layer0/share_clipped"] < 1.0
    # entries within the bound: at most its V ** 0.5-fold
    assert 0.0 < values["diag/layer0/residual_norm"] <= 0.02 * call["v"].shape[-1] ** 0.5
    seen = []
    hook = model.blocks[1].register_forward_hook(lambda *call: seen.append(call[2].abs().max().item()))
    model.hidden(tokens)
    hook.remove()
    assert values["diag/layer1/activation_max"] == pytest.approx(seen[0])
    assert not model.blocks[0]._forward_hooks


def test_attention_has_activations_only(make_run: Callable[..., Composed]) -> None:
    settings = {"name": "transformer", "mixer": "attention", "residual": "off", "gamma": "none"}
    model = build_model(make_run(model=settings).config.model, 32, 0)
    values = layer_diagnostics(model, torch.zeros(1, 4).long(), None)
    assert set(values) == {"diag/layer0/activation_max", "diag/layer1/activation_max"}


def test_first_sequences() -> None:
    tokens = torch.arange(12).view(3, 4)
    batch = ScoredBatch(tokens, tokens.flatten(), None, None, None, 0)
    assert first_sequences(batch, 2)[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    packed = batch._replace(tokens=tokens.view(1, 12), cu_seqlens=torch.tensor([0, 3, 5, 12], dtype=torch.int32))
    part, cu_seqlens = first_sequences(packed, 2)
    assert part.tolist() == [[0, 1, 2, 3, 4]]
    assert cu_seqlens is not None
    assert cu_seqlens.tolist() == [0, 3, 5]


def test_they_are_written_and_change_no_number(make_run: Callable[..., Composed], tmp_path: Path) -> None:
    with_them = train_run(make_run(diagnostics_every=3, log_every=4))
    (path,) = tmp_path.glob("runs/default/*/seed0")
    lines = {line["step"]: line for line in RunFolder(path).read_metrics()}
    assert [step for step, line in lines.items() if "diag/layer1/S_norm" in line] == [3, 6]
    assert [step for step, line in lines.items() if "train/loss" in line] == [4, 8]
    assert lines[3]["diag/grad_norm"] > 0
    assert train_run(make_run(log_every=4)).metrics == with_them.metrics

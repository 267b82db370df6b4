"""Wrong arguments are refused by name, with what they were and what is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from rla_exp.kernels import State, diagnose, linear_attention, linear_attention_step

B, T, H, K, V = 2, 5, 3, 4, 6
RDN = {"rule": "delta", "residual": "fit"}


def arguments(**changes: Any) -> dict[str, Any]:
    """A valid call of RDN, changed."""
    gate = torch.full((B, T, H), 0.5)
    valid = {
        "q": torch.ones(B, T, H, K),
        "k": torch.ones(B, T, H, K),
        "v": torch.ones(B, T, H, V),
        "g": -gate,
        "beta": gate,
        "gamma": gate,
        **RDN,
    }
    return {**valid, **changes}


def state(**changes: Any) -> State:
    S = torch.zeros(B, H, K, V)
    return State(S, S.clone())._replace(**changes)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rule": "gated"}, "rule='gated'; allowed: 'additive', 'delta'"),
    ({"residual": True}, "residual=True; allowed: 'off', 'fit', 'value'"),
    ({"output": "mean"}, "output='mean'; allowed: 'gated', 'sum'"),
    ({"backend": "cuda"}, "backend='cuda'; allowed: 'auto', 'recurrent', 'chunked', 'triton'"),
    ({"clip": 0}, "clip=0; allowed: a finite number above 0, or None"),
    ({"clip": -1.0}, "clip=-1.0; allowed"),
    ({"clip": float("inf")}, "clip=inf; allowed"),
    ({"clip": float("nan")}, "clip=nan; allowed"),
    ({"clip": True}, "clip=True; allowed"),
    ({"clip": "1"}, "clip='1'; allowed"),
    ({"scale": float("nan")}, "scale=nan; allowed: a finite number, or None for K ** -0.5"),
    ({"normalize_qk": 1}, "normalize_qk=1; allowed: False, True"),
    ({"output_final_state": "no"}, "output_final_state='no'; allowed: False, True"),
    ({"decayed_prediction": "yes"}, "decayed_prediction='yes'; allowed: False, True"),
    # combinations
    ({"gamma": None}, "gamma=None with residual='fit'; allowed: a tensor of shape [B, T, H]"),
    ({"gamma": None, "residual": "value"}, "gamma=None with residual='value'"),
    ({"residual": "off"}, "gamma was given with residual='off', which has no second state; allowed: gamma=None"),
    ({"residual": "value", "clip": None}, "clip=None has no effect with residual='value'; allowed: residual='fit'"),
    ({"residual": "off", "gamma": None, "clip": 0.5}, "clip=0.5 has no effect with residual='off'"),
    ({"residual": "value", "decayed_prediction": True}, "decayed_prediction=True has no effect with residual='value'"),
    ({"residual": "off", "gamma": None, "decayed_prediction": True}, "no effect with residual='off'"),
    (
        {"residual": "off", "gamma": None, "output": "sum"},
        "output='sum' adds up two states, but residual='off' has one",
    ),
    # shapes
    ({"q": torch.ones(B, T, K)}, "q has shape [2, 5, 4]; allowed: [B, T, H, K] with no empty axis"),
    ({"q": torch.ones(B, 0, H, K)}, "q has shape [2, 0, 3, 4]; allowed: [B, T, H, K] with no empty axis"),
    ({"k": torch.ones(B, T, H, K + 1)}, "k has shape [2, 5, 3, 5]; allowed: q's shape = [2, 5, 3, 4]"),
    ({"v": torch.ones(B, T + 1, H, V)}, "v has shape [2, 6, 3, 6]; allowed: q's [B, T, H] = [2, 5, 3] and then V >= 1"),
    ({"v": torch.ones(B, T, H, 0)}, "v has shape [2, 5, 3, 0]"),
    ({"g": torch.zeros(B, T, H, K)}, "g has shape [2, 5, 3, 4]; allowed: q's [B, T, H] = [2, 5, 3]"),
    ({"beta": torch.zeros(B, H, T)}, "beta has shape [2, 3, 5]; allowed: q's [B, T, H] = [2, 5, 3]"),
    ({"gamma": torch.zeros(B, T, 1)}, "gamma has shape [2, 5, 1]; allowed: q's [B, T, H] = [2, 5, 3]"),
    # types
    ({"q": [1.0]}, "q is a list; allowed: a tensor"),
    (
        {"k": torch.ones(B, T, H, K, dtype=torch.int64)},
        "k has dtype torch.int64; allowed: torch.float16, torch.bfloat16",
    ),
    ({"v": torch.ones(B, T, H, V).to_sparse()}, "v has layout torch.sparse_coo; allowed: torch.strided"),
    ({"g": torch.ones(B, T, H, dtype=torch.bool)}, "g has dtype torch.bool"),
    ({"beta": 1.0}, "beta is a float; allowed: a tensor"),
    ({"v": torch.ones(B, T, H, V, device="meta")}, "v is on meta; allowed: q's device, cpu"),
    # states
    ({"initial_state": torch.zeros(B, H, K, V)}, "initial_state is a Tensor; allowed: rla_exp.kernels.State(S, R)"),
    ({"initial_state": state(R=None)}, "initial_state.R=None with residual='fit'; allowed: a tensor like S"),
    ({"initial_state": state(), "residual": "off", "gamma": None}, "initial_state.R was given with residual='off'"),
    (
        {"initial_state": state(S=torch.zeros(B, H, V, K))},
        "initial_state.S has shape [2, 3, 6, 4]; allowed: [N, H, K, V] = [2, 3, 4, 6]",
    ),
    (
        {"initial_state": state(R=torch.zeros(B, H, K, V).double())},
        "initial_state.R has dtype torch.float64; allowed with these inputs: torch.float32",
    ),
    ({"initial_state": state(S=torch.zeros(B, H, K, V).to_sparse())}, "initial_state.S has layout torch.sparse_coo"),
    ({"initial_state": state(S=None)}, "initial_state.S is a NoneType; allowed: a tensor"),
    # packing
    ({"cu_seqlens": torch.tensor([0, T])}, "cu_seqlens with q of shape [2, 5, 3, 4]; allowed: B = 1"),
    ({"cu_seqlens": [0, T]}, "cu_seqlens is list; allowed: an int32 or int64 tensor"),
    ({"cu_seqlens": torch.tensor([0.0, 5.0])}, "cu_seqlens is torch.float32; allowed: an int32 or int64 tensor"),
    ({"cu_seqlens": torch.tensor([0])}, "cu_seqlens has shape [1]; allowed: [N + 1] with N >= 1"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
@pytest.mark.parametrize("function", [linear_attention, diagnose])
def test_a_wrong_argument(function: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        function(**arguments(**changes))


@pytest.mark.parametrize("offsets", [[1, 5], [0, 4], [0, 3, 2, 5], [0, 6]])
def test_wrong_offsets(offsets: list[int]) -> None:
    call = {name: x[:1] if isinstance(x, torch.Tensor) else x for name, x in arguments().items()}
    with pytest.raises(ValueError, match=r"cu_seqlens=\[.*\]; allowed: rising from 0 to T = 5"):
        linear_attention(**call, cu_seqlens=torch.tensor(offsets))


def test_a_packed_state_is_one_per_sequence() -> None:
    call = {name: x[:1] if isinstance(x, torch.Tensor) else x for name, x in arguments().items()}
    with pytest.raises(ValueError, match=r"initial_state.S has shape .*allowed: \[N, H, K, V\] = \[3, 3, 4, 6\]"):
        linear_attention(**call, initial_state=state(), cu_seqlens=torch.tensor([0, 1, 2, 5]))


WRONG_STEP: list[tuple[dict[str, Any], str]] = [
    ({"q": torch.ones(B, 1, H, K)}, "q has shape [2, 1, 3, 4]; allowed: [B, H, K] with no empty axis"),
    ({"gamma": None}, "gamma=None with residual='fit'; allowed: a tensor of shape [B, H]"),
    ({"state": None}, "state is a NoneType; allowed: rla_exp.kernels.State(S, R)"),
    ({"state": state(R=None)}, "state.R=None with residual='fit'"),
    (
        {"state": state(S=torch.zeros(1, H, K, V))},
        "state.S has shape [1, 3, 4, 6]; allowed: [N, H, K, V] = [2, ",
    ),
    ({"state": state(S=torch.zeros(B, H, K, V).bfloat16())}, "state.S has dtype torch.bfloat16"),
    ({"inplace": 1}, "inplace=1; allowed: False, True"),
    ({"backend": "cuda"}, "backend='cuda'; allowed: 'auto', 'recurrent', 'chunked', 'triton'"),
    ({"rule": "kda"}, "rule='kda'"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_STEP)
def test_a_wrong_argument_of_the_step(changes: dict[str, Any], message: str) -> None:
    token = {name: x[:, 0] if isinstance(x, torch.Tensor) else x for name, x in arguments().items()}
    linear_attention_step(**token, state=state())
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_attention_step(**{**token, "state": state(), **changes})

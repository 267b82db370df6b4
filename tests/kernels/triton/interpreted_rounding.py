"""What rounding may not do to a prediction, in Triton's interpreter. Not collected by itself: test_interpreter.py
starts it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from rla_exp.kernels import State
from rla_exp.kernels.options import Options
from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.bounds import bound
from rla_exp.kernels.verify.cases import RDN, RLA
from rla_exp.kernels.verify.measure import check_case
from rla_exp.kernels.verify.problem import Case, Scenario, describe, make_problem

BACKEND = load_backend("triton")
CPU = torch.device("cpu")


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 as a GPU has it: the interpreter multiplies its bits as integers, and cuts off where a GPU rounds."""
    cast = InterpreterBuilder.cast_impl

    def as_float(x: Any) -> Any:
        if x.dtype.scalar == tl.bfloat16:
            return torch.from_numpy(x.data).view(torch.bfloat16).float().numpy()
        return x.data.astype(np.float32)

    def dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
        return TensorHandle(as_float(a) @ as_float(b) + d.data, d.dtype.scalar)

    def rounded(self: Any, x: Any, dtype: Any) -> Any:
        if x.dtype.scalar == tl.float32 and dtype.scalar == tl.bfloat16:
            low = torch.from_numpy(np.array(x.data)).bfloat16()
            return TensorHandle(low.view(torch.uint16).numpy(), dtype.scalar)
        return cast(self, x, dtype)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)
    monkeypatch.setattr(InterpreterBuilder, "cast_impl", rounded)


@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_near_collinear_keys(bfloat16: None, options: Options) -> None:
    """The mask would differ at 0.045 and 0.021 from the clip's bound, were only rounded operands multiplied."""
    scenario = Scenario(name="collinear", lengths=(130,), batch_size=1, collinear=True, beta="near 1")
    case = Case(scenario=scenario, options=options, K=32, V=64, dtype=torch.bfloat16)
    result = check_case(case, BACKEND, CPU)
    assert len(result.errors) == 11
    assert all(error <= bound(name, case) for name, error in result.errors.items())
    assert result.mask_distance is not None
    assert result.mask_distance < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [RDN, RLA], ids=describe)
def test_the_first_token_is_predicted_from_the_state_itself(
    bfloat16: None, options: Options, dtype: torch.dtype
) -> None:
    """Every other entry of v - P is beyond the clip's bound, by less than what rounding the state moves."""
    scenario = Scenario(name="first", lengths=(1,), batch_size=1, num_heads=1)
    x = make_problem(Case(scenario=scenario, options=options, K=16, V=64, dtype=dtype), CPU)
    k, v = (value.detach()[0, 0, 0].double() for value in (x.k, x.v))
    beyond = torch.arange(64) % 2 == 0
    P = v - torch.where(beyond, 1 + 3e-5, 1 - 3e-5)
    S = torch.outer(k, P) / k.square().sum()
    assert x.initial_state is not None
    problem = replace(x, initial_state=State(S.float()[None, None], x.initial_state.R))
    assert torch.equal(BACKEND.clip_mask(problem, options)[0, 0, 0], ~beyond)

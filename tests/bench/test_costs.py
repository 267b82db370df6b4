"""Bytes and operations of the kernels, against what they do and against sums by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rla_exp.bench.cases import OPTIONS
from rla_exp.bench.costs import HOPPER_COLUMNS, IN_ONE, Cost, floor_ms, kernel_costs, step_bytes, stored
from rla_exp.bench.limits import Limits

LIMITS = Limits(copy_gb_per_s=3000.0, matmul_tflop_per_s=750.0)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton exists for Linux only")
def test_operations_are_those_that_the_kernels_do() -> None:
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("counted.py"))],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    counted = json.loads(run.stdout)
    assert set(counted) == set(OPTIONS)
    for op, (forward, both) in counted.items():
        assert 64 * sum(c.flops for c in kernel_costs(op, K=32, V=32, dtype="float16", gradients=False)) == forward, op
        assert 64 * sum(c.flops for c in kernel_costs(op, K=32, V=32, dtype="float16", gradients=True)) == both, op


def test_bytes_of_the_forward_pass_by_hand() -> None:
    inverses, prepare, forward_S, forward_R = kernel_costs("rdn", gradients=False)
    vector = 128 * 2  # a token of q, k, v or o
    matrix = 64 * 2
    row = 4
    # beside T_b and T_y what rounding takes of T_b
    assert inverses.bytes == vector + 3 * row + 3 * matrix
    assert prepare.bytes == 2 * vector + (3 + 12) * row + (2 + 1 + 3) * matrix
    # q, k, v, o, r; and for R q, k, r, o twice
    assert forward_S.bytes == 5 * vector + 6 * row + 3 * matrix
    assert forward_R.bytes == 5 * vector + 6 * row + 2 * matrix
    # with gradients a float32 state every 16 chunks of 64
    kept = kernel_costs("rdn", gradients=True)[2]
    assert kept.bytes - forward_S.bytes == 128 * 128 * 4 / (16 * 64)


def test_the_forward_pass_on_hopper_by_hand() -> None:
    vector, matrix, row = 128 * 2, 64 * 2, 4
    inverses, rows, forward = kernel_costs("rdn", gradients=False, in_one=IN_ONE)
    assert inverses == kernel_costs("rdn", gradients=False)[0]
    # g, b and y become twelve rows
    assert (rows.bytes, rows.flops) == ((3 + 12) * row, 0)
    # q, k, v and o; T_b, T_y and what rounding took of T_b
    assert forward.bytes == 4 * vector + 3 * matrix + 12 * row
    # r, and the two states every 16 chunks of 64
    kept = kernel_costs("rdn", gradients=True, in_one=IN_ONE)[2]
    assert kept.bytes - forward.bytes == vector + 2 * 128 * 128 * 4 / (16 * 64)
    # of a program, by the products of mixes.py and states.py: [64, 64, 64] is one, [64, 64, 128] two
    mixes = 2 + 2 + 3  # K K^T, Q K^T, PREDICT with what rounding takes of both
    state = 2 + 1 + 1 + 2 + 1 + 2 + 2  # S K, U, P, S Q, A_s U, and twice into S
    residual = 2 + 2 + 1 + 1 + 2  # R K, R Q, W, A W, into R
    assert 64 * forward.flops == 2 * (mixes + state + residual) * 2 * 64**3
    # additive: no U, no W, nothing at k of R, and P twice; PREDICT is not multiplied
    rows, forward = kernel_costs("rla", gradients=False, in_one=IN_ONE)
    assert forward.bytes == 4 * vector + 12 * row
    assert 64 * forward.flops == 2 * ((2 + 2) + (2 + 2 + 2 + 1 + 2 + 2) + (2 + 1 + 2)) * 2 * 64**3
    inverses, rows, forward = kernel_costs("gated_delta_net", gradients=False, in_one=IN_ONE)
    assert rows.bytes == (2 + 11) * row
    assert forward.bytes == 4 * vector + matrix + 12 * row
    assert 64 * forward.flops == 2 * (2 + (2 + 1 + 2 + 1 + 2)) * 2 * 64**3


def test_the_reverse_pass_on_hopper_by_hand() -> None:
    vector, matrix, row = 128 * 2, 64 * 2, 4
    # the gradient of a state after every chunk, and a checkpoint every 16 chunks
    states = 128 * 128 * 2 / 64 + 128 * 128 * 4 / (16 * 64)
    costs = {
        op: {cost.kernel: cost for cost in kernel_costs(op, gradients=True, in_one=IN_ONE)}
        for op in ("rdn", "rla", "gated_delta_net")
    }
    of_S, of_R = (costs["rdn"][f"gradients {name} on Hopper"] for name in "SR")
    # q, k, do, r, dq, dk, mu and what goes back; T_y; twelve rows of gates, dy, dg; dR and R
    assert of_R.bytes == 8 * vector + matrix + 14 * row + states
    # v for r, lam for mu, T_b for T_y, and what R left of dq, dk and dg
    assert of_S.bytes == 10 * vector + matrix + 15 * row + states
    # by the products of states.py: R k^T, W, k^T W, [64, 64, 64] as one
    carried = 4 + 2 + 4
    # of inside.py and through.py: mu W^T, dO W^T, K K^T, Q K^T; dO R^T, mu R^T, W dR^T; the [C, C] matrices with q and
    # k. Of S two more, with what goes back
    assert 64 * of_R.flops == (carried + 2 + 2 + 2 + 2 + 3 * 4 + 4 * 2) * 2 * 64**3
    assert 64 * of_S.flops == 64 * of_R.flops + (2 + 4) * 2 * 64**3
    of_S, of_R = (costs["rla"][f"gradients {name} on Hopper"] for name in "SR")
    # additive: nothing at k
    assert (of_R.bytes, of_S.bytes) == (8 * vector + 14 * row + states, 10 * vector + 15 * row + states)
    assert 64 * of_R.flops == (4 + 2 + 2 + 2 * 4 + 2 * 2) * 2 * 64**3
    assert costs["gated_delta_net"]["gradients S on Hopper"].bytes == 7 * vector + matrix + 14 * row + states
    assert not any(name in found for found in costs.values() for name in ("gradients S", "gradients R", "replay S"))


@pytest.mark.skipif(find_spec("triton") is None, reason="triton exists for Linux only")
def test_columns_of_the_kernel_for_hopper_are_its_own() -> None:
    from rla_exp.kernels.triton.hopper.layout import BV

    assert BV.value == HOPPER_COLUMNS


def test_what_is_saved_is_what_the_forward_pass_leaves() -> None:
    state, r, inverse = 128 * 128 * 4 / (16 * 64), 128 * 2, 64 * 2
    saved = {op: sum(part.bytes for part in stored(op) if part.where == "saved") for op in OPTIONS}
    assert saved["linear_attention"] == state
    assert saved["gated_delta_net"] == saved["delta_net"] == state + inverse
    assert saved["rla"] == 2 * state + r
    assert saved["rdn"] == 2 * state + r + 2 * inverse


def test_a_pass_of_either_kind_beside_the_others() -> None:
    """As few long sequences have them: cut forward, and by the additive rule backward, too."""

    def names(*in_one: str) -> list[str]:
        return [cost.kernel for cost in kernel_costs("rdn", gradients=True, in_one=in_one)]

    forward = ["inverses", "prepare", "forward S", "forward R"]
    alone = ["gradients R on Hopper", "gradients S on Hopper"]
    assert names("reverse", "gradients") == [*forward, "rows again", "reverse on Hopper", *alone]
    of_states = [[f"reverse {x}", f"gradients {x} on Hopper"] for x in "RS"]
    assert names("gradients") == [*forward, "prepare again", *of_states[0], *of_states[1]]
    # V of 256
    last = ["rows again", "reverse on Hopper", "replay R", "gradients R", "replay S", "gradients S"]
    assert names("forward", "reverse") == ["inverses", "rows", "forward on Hopper", *last]
    sums = {
        in_one: sum(cost.seconds(LIMITS) for cost in kernel_costs("rdn", gradients=True, in_one=in_one))
        for in_one in ((), ("gradients",), ("reverse", "gradients"), IN_ONE)
    }
    assert list(sums.values()) == sorted(sums.values(), reverse=True)


def test_floors() -> None:
    assert Cost("", bytes=3000, flops=1).seconds(LIMITS) == pytest.approx(1e-9)
    assert Cost("", bytes=1, flops=750e3).seconds(LIMITS) == pytest.approx(1e-9)
    assert step_bytes("rdn", 64, 16, 128, 128) == 2 * 2 * 64 * 16 * 128 * 128 * 4
    assert step_bytes("gated_delta_net", 64, 16, 128, 128) == 2 * 64 * 16 * 128 * 128 * 4
    one = floor_ms("rdn", "fwd", 1, 1024, 16, 128, 128, "bfloat16", LIMITS, in_one=())
    assert floor_ms("rdn", "fwd", 4, 2048, 16, 128, 128, "bfloat16", LIMITS, in_one=()) == pytest.approx(8 * one)
    assert floor_ms("rdn", "fwd", 1, 1024, 16, 128, 128, "bfloat16", LIMITS, in_one=IN_ONE) < 0.6 * one
    seconds = sum(cost.seconds(LIMITS) for cost in kernel_costs("rdn", gradients=False))
    assert one == pytest.approx(1000 * 1024 * 16 * seconds)

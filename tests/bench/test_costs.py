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
from rla_exp.bench.costs import Cost, floor_ms, kernel_costs, step_bytes, stored
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
    prepare, forward = kernel_costs("rdn", gradients=False)
    vectors = 2 * 128 * 2  # q and k
    matrices = 5 * 64 * 2
    assert prepare.bytes == vectors + 9 * 4 + matrices
    assert forward.bytes == 2 * vectors + 6 * 4 + matrices
    # with gradients r, and two float32 states every 16 chunks of 64
    kept = kernel_costs("rdn", gradients=True)[1]
    assert kept.bytes - forward.bytes == 128 * 2 + 2 * 128 * 128 * 4 / (16 * 64)


def test_what_is_saved_is_what_the_forward_pass_writes_for_the_backward() -> None:
    for op in OPTIONS:
        saved = sum(part.bytes for part in stored(op) if part.where == "saved")
        without, kept = (kernel_costs(op, gradients=gradients)[1].bytes for gradients in (False, True))
        assert saved == pytest.approx(kept - without), op


def test_floors() -> None:
    assert Cost("", bytes=3000, flops=1).seconds(LIMITS) == pytest.approx(1e-9)
    assert Cost("", bytes=1, flops=750e3).seconds(LIMITS) == pytest.approx(1e-9)
    assert step_bytes("rdn", 64, 16, 128, 128) == 2 * 2 * 64 * 16 * 128 * 128 * 4
    assert step_bytes("gated_delta_net", 64, 16, 128, 128) == 2 * 64 * 16 * 128 * 128 * 4
    one = floor_ms("rdn", "fwd", 1, 1024, 16, 128, 128, "bfloat16", LIMITS)
    assert floor_ms("rdn", "fwd", 4, 2048, 16, 128, 128, "bfloat16", LIMITS) == pytest.approx(8 * one)
    seconds = sum(cost.seconds(LIMITS) for cost in kernel_costs("rdn", gradients=False))
    assert one == pytest.approx(1000 * 1024 * 16 * seconds)

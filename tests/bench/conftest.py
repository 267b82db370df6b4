"""A finished benchmark, by hand."""

from __future__ import annotations

from typing import Any

import pytest


def row(op: str, run: str, ms: float, *, peer: str | None = None, B: int = 4, T: int = 8192) -> dict[str, Any]:
    """One row as the file has it."""
    sizes = {"B": B, "T": T, "H": 16, "K": 128, "V": 128, "dtype": "bfloat16"}
    times = {"ms": ms, "ms_p20": 0.9 * ms, "ms_p80": 1.2 * ms, "peak_mib": 100 * ms}
    return {"op": op, "peer": peer, "pass": run, **sizes, **times}


@pytest.fixture
def content() -> dict[str, Any]:
    """Two lengths, one peer, a step and a failure."""
    rows = [
        row("rdn", "fwd", 0.8),
        row("rdn", "fwd", 0.9, B=1, T=32768),
        row("rdn", "fwd+bwd", 4.0),
        row("gated_delta_net", "fwd", 1.04, peer="fla-core 0.6.0"),
        row("rdn", "step", 0.12, B=64, T=1),
    ]
    failed = {**row("rla", "fwd", 1.0), "reason": "OutOfMemoryError: too much"}
    return {
        "gpu": "NVIDIA H100 80GB HBM3",
        "versions": {"torch": "2.11.0", "triton": "3.6.0"},
        "commit": "abc",
        "command": "rla-bench",
        "date": "2026-11-24",
        "backend": "triton",
        "limits": {"copy_gb_per_s": 3000.0, "matmul_tflop_per_s": 750.0},
        "rows": rows,
        "failures": [{key: value for key, value in failed.items() if not key.startswith(("ms", "peak"))}],
    }

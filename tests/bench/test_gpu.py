"""The benchmark on a GPU: the fused kernels, the step as a graph, PyTorch's attention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rla_exp.cli.bench import main

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def test_times_and_memory(tmp_path: Path) -> None:
    small = ["ops=rdn,attention", "by=ours,sdpa_flash", "shapes=2x256", "heads=2", "seconds=0.01"]
    assert main([*small, f"out={tmp_path}"]) == 0
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    assert content["failures"] == []
    rows = {(row["op"], row["pass"], row["B"]): row for row in content["rows"]}
    assert set(rows) == {
        *((op, run, 2) for op in ("rdn", "attention") for run in ("fwd", "fwd+bwd")),
        *(("rdn", "step", B) for B in (1, 16, 64)),
    }
    # o alone is 2 * 256 * 2 * 128 numbers of 16 bits, and gradients of q, k, v come to it
    o = 2 * 256 * 2 * 128 * 2 / 2**20
    assert rows["rdn", "fwd", 2]["peak_mib"] >= o
    assert rows["rdn", "fwd+bwd", 2]["peak_mib"] >= 4 * o
    assert 100 < content["limits"]["copy_gb_per_s"] < 20_000
    # less than the states' bytes at that speed would be a step that was not timed
    states = 2 * 2 * 64 * 2 * 128 * 128 * 4
    assert rows["rdn", "step", 64]["ms"] > 0.5 * states / content["limits"]["copy_gb_per_s"] / 1e6

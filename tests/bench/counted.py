"""Run with TRITON_INTERPRET=1: operations of the matrix products that the kernels really do, as JSON by operation."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from triton.runtime.interpreter import InterpreterBuilder

from rla_exp.bench.cases import OPTIONS
from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.backward import fused_backward
from rla_exp.kernels.triton.call import Operands
from rla_exp.kernels.triton.launch import fused_forward

C, K, V = 64, 32, 32
done = 0
interpreted = InterpreterBuilder.create_dot


def counted(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    global done
    m, k = a.data.shape
    n = b.data.shape[1]
    done += 2 * m * n * k
    return interpreted(self, a, b, *rest)


def main() -> None:
    """One chunk of one head."""
    global done
    InterpreterBuilder.create_dot = counted
    torch.manual_seed(0)
    found = {}
    for op, given in OPTIONS.items():
        options = Options(**given)
        q, k, v, do = (torch.randn(1, C, 1, size).half() for size in (K, K, V, V))
        g, beta, gamma = (torch.rand(1, C, 1) for _ in range(3))
        x = Operands(q, k, v, -g, beta, gamma if options.has_residual else None, None)
        done = 0
        *_, saved = fused_forward(x, options, None, None, keep=True)
        forward = done
        fused_backward(x, options, saved, do, None, None)
        found[op] = (forward, done)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

"""What is measured: operations, passes and shapes. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Op = Literal["linear_attention", "delta_net", "gated_delta_net", "rla", "rdn", "attention"]
Pass = Literal["fwd", "fwd+bwd", "step"]
OPS: tuple[Op, ...] = get_args(Op)
PASSES: tuple[Pass, ...] = get_args(Pass)

OPTIONS: dict[Op, dict[str, Any]] = {
    "linear_attention": {"rule": "additive"},
    "delta_net": {"rule": "delta"},
    "gated_delta_net": {"rule": "delta"},
    "rla": {"rule": "additive", "residual": "fit"},
    "rdn": {"rule": "delta", "residual": "fit"},
}
"""Each operation of ours as options of `linear_attention`; attention is others' alone."""


@dataclass(frozen=True)
class Shape:
    """B sequences of T tokens, H heads; of a step T is 1."""

    B: int
    T: int
    H: int = 16
    K: int = 128
    V: int = 128
    dtype: str = "bfloat16"


@dataclass(frozen=True)
class Case:
    """One row of the benchmark, before it is measured."""

    op: Op
    run: Pass
    shape: Shape

    def to_row(self, peer: str | None) -> dict[str, Any]:
        """As the file has it: what was measured and for which shape."""
        return {"op": self.op, "peer": peer, "pass": self.run, **asdict(self.shape)}

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the process that measures it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Case:
        """The inverse of to_json."""
        return cls(content["op"], content["run"], Shape(**content["shape"]))


# B and T: 32,768 tokens a batch, then ever longer sequences one at a time
FULL = ((16, 2048), (8, 4096), (4, 8192), (2, 16384), (1, 32768), (1, 65536), (1, 131072))
QUICK = ((16, 2048), (4, 8192), (1, 32768), (1, 131072))
QUICK_OPS: tuple[Op, ...] = ("rdn", "rla", "gated_delta_net", "attention")
ON_CPU = ((1, 512), (1, 2048))
STEP_BATCHES = (1, 16, 64)


def all_cases(
    ops: Sequence[Op],
    passes: Sequence[Pass],
    sequences: Sequence[tuple[int, int]],
    step_batches: Sequence[int],
    like: Shape,
) -> Iterator[Case]:
    """Every operation and pass, shortest sequences first; attention has no step.

    Args:
        sequences: B and T of each shape.
        step_batches: B of each step.
        like: the other sizes and the dtype.
    """
    for op in ops:
        for run in passes:
            pairs = [(batch, 1) for batch in step_batches] if run == "step" else sequences
            if run != "step" or op != "attention":
                for B, T in pairs:
                    yield Case(op, run, Shape(B, T, like.H, like.K, like.V, like.dtype))

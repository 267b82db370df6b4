"""The options of the operator, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal["additive", "delta"]
Residual = Literal["off", "fit", "value"]
Output = Literal["gated", "sum"]
BackendName = Literal["auto", "recurrent", "chunked", "triton"]

DEFAULT_CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which operator is computed; the meaning of each field is in `linear_attention`.

    Raises ValueError naming the argument, its value and what is allowed, for a single value or a combination.
    """

    rule: Rule
    residual: Residual = "off"
    clip: float | None = DEFAULT_CLIP
    output: Output = "gated"
    decayed_prediction: bool = False
    normalize_qk: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, get_args(Rule))
        check_choice("residual", self.residual, get_args(Residual))
        check_choice("output", self.output, get_args(Output))
        check_choice("decayed_prediction", self.decayed_prediction, (False, True))
        check_choice("normalize_qk", self.normalize_qk, (False, True))
        if self.clip is not None and not (_is_number(self.clip) and 0 < self.clip < math.inf):
            raise ValueError(f"clip={self.clip!r}; allowed: a finite number above 0, or None")
        if self.scale is not None and not (_is_number(self.scale) and math.isfinite(self.scale)):
            raise ValueError(f"scale={self.scale!r}; allowed: a finite number, or None for K ** -0.5")
        if self.residual != "fit":
            if self.clip != DEFAULT_CLIP:
                raise ValueError(
                    f"clip={self.clip!r} has no effect with residual={self.residual!r}; "
                    f"allowed: residual='fit', or leave clip at {DEFAULT_CLIP}"
                )
            if self.decayed_prediction:
                raise ValueError(
                    f"decayed_prediction=True has no effect with residual={self.residual!r}; "
                    "allowed: residual='fit', or decayed_prediction=False"
                )
        if self.residual == "off" and self.output == "sum":
            raise ValueError("output='sum' adds up two states, but residual='off' has one; allowed: output='gated'")

    @property
    def has_residual(self) -> bool:
        """Whether there is a second state R."""
        return self.residual != "off"

    @property
    def is_delta(self) -> bool:
        """Whether states are written by the delta rule."""
        return self.rule == "delta"

    @property
    def reads_at_k(self) -> bool:
        """Whether S_{t-1} k_t is needed: by the delta rule or by the residual."""
        return self.is_delta or self.residual == "fit"

    def query_scale(self, head_dim_k: int) -> float:
        """What q is multiplied by."""
        return head_dim_k**-0.5 if self.scale is None else float(self.scale)


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ValueError unless value is one of those allowed (and of the same type: 1 is not True)."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(repr(choice) for choice in allowed)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

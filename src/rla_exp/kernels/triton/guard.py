"""The self-check: before kernels are first used, they are compared with the definition on the GPU at hand.

Compilers for GPUs have been wrong before, silently. What is checked is what is about to be used: the same options, head
sizes and dtype, so that the kernels compiled for the check are those that the call needs anyway. That happens in a
process of its own, for a kernel gone wrong may leave the GPU's context unusable, and "auto" must still be able to fall
back. The outcome is kept on disk for this GPU, compiler and these sources.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import DEFAULT_CLIP, Options, Output, Residual, Rule
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.isolated import measure
from rla_exp.kernels.triton.stored import environment, read_stored, stored_file, write_stored
from rla_exp.kernels.triton.tiles import may_cut, may_describe
from rla_exp.kernels.verify.problem import Case, Scenario, dtype_name

SHAPES: dict[str, tuple[tuple[tuple[int, ...], int, int], ...]] = {
    # lengths, batch size and heads. A token beyond a chunk, and some beyond the first
    # checkpoint; more heads than a GPU has processors, for which other tiles are chosen
    "equal": (((65,), 2, 2), ((1100,), 2, 2), ((65,), 24, 4)),
    "packed": (((65, 1, 0, 130), 1, 2), ((65, 1, 0, 130) * 6, 1, 4)),
    "step": (((1,), 2, 2),),
}
CUT_SHAPE = ((4100,), 1, 1)
"""What is cut into segments wherever any call is, and its last segment and chunk are short."""
WHOLE_SHAPES = (((64,), 2, 2), ((1152,), 2, 2), ((64,), 24, 4))
"""The equal ones in whole chunks, whose tiles are loaded by descriptor where any are."""
WHOLE_CUT_SHAPE = ((4224,), 1, 1)
"""The same of what is cut: its last segment is short. Not any length will do: of 4160 tokens one entry that rounding
moves over the clip's bound holds 3% of dv's squares, and the comparison with the true mask depends on its side."""


class Setting(NamedTuple):
    """What decides which kernels are compiled, in plain values."""

    rule: Rule
    residual: Residual
    clipped: bool
    output: Output
    decayed_prediction: bool
    normalize_qk: bool
    K: int
    V: int
    dtype: str
    kind: Literal["equal", "packed", "step"]
    initial_state: bool
    gradients: bool
    candidate: int = 0
    """Which of the candidates for the tiles; 0: the usual ones."""
    may_cut: bool = False
    """Whether some GPU cuts such a call's sequences into segments."""
    may_describe: bool = False
    """Whether some GPU loads such a call's tiles by descriptor."""

    @classmethod
    def of(cls, inputs: Inputs, options: Options, *, step: bool, gradients: bool) -> Setting:
        """Of one call."""
        kind: Literal["equal", "packed", "step"] = "step" if step else "equal" if inputs.offsets is None else "packed"
        return cls.with_options(
            options,
            K=inputs.q.shape[-1],
            V=inputs.v.shape[-1],
            dtype=_common_dtype(inputs),
            kind=kind,
            initial_state=inputs.initial_state is not None,
            gradients=gradients,
            num_heads=inputs.num_sequences * inputs.q.shape[-2],
            num_tokens=inputs.q.shape[1] if kind == "equal" else 0,
        )

    @classmethod
    def with_options(
        cls,
        options: Options,
        *,
        K: int,
        V: int,
        dtype: torch.dtype,
        kind: Literal["equal", "packed", "step"],
        initial_state: bool,
        gradients: bool,
        num_heads: int,
        num_tokens: int,
    ) -> Setting:
        """Of calls with these options; heads of all sequences together, tokens of equal ones (packed: 0)."""
        return cls(
            rule=options.rule,
            residual=options.residual,
            clipped=options.residual == "fit" and options.clip is not None,
            output=options.output,
            decayed_prediction=options.decayed_prediction,
            normalize_qk=options.normalize_qk,
            K=K,
            V=V,
            dtype=dtype_name(dtype),
            kind=kind,
            initial_state=initial_state,
            gradients=gradients,
            may_cut=may_cut(K, num_heads=num_heads, num_tokens=num_tokens),
            may_describe=may_describe(dtype, K=K, V=V, num_tokens=num_tokens),
        )

    def cases(self) -> list[Case]:
        """Few and small, so that the check takes little longer than the compilation of its kernels."""
        options = Options(
            rule=self.rule,
            residual=self.residual,
            clip=DEFAULT_CLIP if self.clipped or self.residual != "fit" else None,
            output=self.output,
            decayed_prediction=self.decayed_prediction,
            normalize_qk=self.normalize_qk,
        )
        shapes = WHOLE_SHAPES if self.may_describe else SHAPES[self.kind]
        if self.may_cut:
            shapes += (WHOLE_CUT_SHAPE if self.may_describe else CUT_SHAPE,)
        return [
            Case(
                scenario=Scenario(
                    name=f"{' + '.join(map(str, lengths[:4]))} tokens, {batch_size * len(lengths)} x {num_heads}",
                    lengths=lengths,
                    batch_size=batch_size,
                    num_heads=num_heads,
                    initial_state=self.initial_state,
                    gradients=self.gradients,
                    step=self.kind == "step",
                ),
                options=options,
                K=self.K,
                V=self.V,
                dtype=getattr(torch, self.dtype),
                candidate=self.candidate,
            )
            for lengths, batch_size, num_heads in shapes
        ]


def _common_dtype(inputs: Inputs) -> torch.dtype:
    """What the kernels compute q, k and v in."""
    return torch.promote_types(torch.promote_types(inputs.q.dtype, inputs.k.dtype), inputs.v.dtype)


_outcomes: dict[tuple[Setting, int], dict[str, Any]] = {}
_lock = threading.RLock()


class Verdict(NamedTuple):
    """What a self-check says."""

    failure: str | None
    """Why the kernels may not be used; None: they may."""
    is_conclusive: bool
    """False: it failed by an accident, such as a GPU without memory, and may pass another time."""


def self_check(setting: Setting, device_index: int) -> str | None:
    """Why the kernels may not be used for this setting on this GPU; None: they may. Measures on first use only."""
    (verdict,) = self_check_all([setting], device_index)
    return verdict.failure


def self_check_all(settings: Sequence[Setting], device_index: int) -> list[Verdict]:
    """The same for several settings, measured side by side: most of that time compiles."""
    use_installed_assembler()  # what is checked, and named in the outcome, is what will compile
    with _lock:
        missing = [setting for setting in settings if (setting, device_index) not in _outcomes]
        with ThreadPoolExecutor(max_workers=max(1, len(missing))) as pool:
            found = pool.map(lambda setting: _read_or_measure(setting, device_index), missing)
            for setting, outcome in zip(missing, found, strict=True):
                _outcomes[setting, device_index] = outcome
        outcomes = [_outcomes[setting, device_index] for setting in settings]
    return [Verdict(_failure(outcome), outcome["is_conclusive"]) for outcome in outcomes]


def _failure(outcome: dict[str, Any]) -> str | None:
    if not outcome["failures"]:
        return None
    where = f"{outcome['gpu']} with triton {outcome['triton']} and ptxas {outcome['ptxas']}"
    return f"its self-check on {where} failed: {'; '.join(outcome['failures'])}"


def self_checks() -> list[dict[str, Any]]:
    """The outcomes that this process has relied on: GPU, versions, setting, errors and failures of each."""
    with _lock:
        return [dict(outcome) for outcome in _outcomes.values()]


def _read_or_measure(setting: Setting, device_index: int) -> dict[str, Any]:
    key = {**environment(device_index), "setting": setting._asdict()}
    file = stored_file("self_checks", key)
    stored = read_stored(file, "failures", list)
    if stored is not None:
        return stored
    start = perf_counter()
    outcome = {**key, **measure(setting, f"cuda:{device_index}")}
    outcome["seconds"] = round(perf_counter() - start, 1)
    # what an accident refused may be another time's luck
    if outcome["is_conclusive"]:
        write_stored(file, outcome)
    return outcome

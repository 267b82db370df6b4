"""Which cases a backend is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import torch

from rla_exp.kernels.options import Options
from rla_exp.kernels.verify.problem import Case, Scenario

HEAD_DIMS = (32, 64, 96, 128, 256)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

LINEAR_ATTENTION = Options(rule="additive")
GATED_DELTA_NET = Options(rule="delta")
RLA = Options(rule="additive", residual="fit")
RDN = Options(rule="delta", residual="fit")

SCENARIOS = (
    Scenario(name="1 token", lengths=(1,)),
    Scenario(name="63 tokens", lengths=(63,)),
    Scenario(name="65 tokens", lengths=(65,)),
    Scenario(name="200 tokens", lengths=(200,)),
    Scenario(name="200 tokens, no initial state", lengths=(200,), initial_state=False),
    Scenario(name="200 tokens, no gradients", lengths=(200,), gradients=False),
    Scenario(name="packed, no gradients", lengths=(15, 1, 0, 64, 65, 300, 0), gradients=False),
    Scenario(name="step", lengths=(1,), step=True),
    Scenario(name="step, no decay, no beta", lengths=(1,), step=True, decay="none", beta="none"),
    Scenario(name="step, all clipped", lengths=(1,), step=True, clipped="all"),
    Scenario(name="1000 tokens", lengths=(1000,), launches=20),
    Scenario(name="2100 tokens", lengths=(2100,)),
    # whole chunks: tiles are loaded by descriptor
    Scenario(name="64 tokens", lengths=(64,)),
    Scenario(name="1024 tokens", lengths=(1024,), launches=20),
    Scenario(name="1024 tokens, no initial state", lengths=(1024,), initial_state=False),
    Scenario(name="192 tokens, no gradients", lengths=(192,), gradients=False),
    Scenario(name="many heads, 192 tokens", lengths=(192,), batch_size=24, num_heads=4),
    Scenario(name="4160 tokens", lengths=(4160,), launches=3),
    # long for so few heads: they are cut into segments
    Scenario(name="4113 tokens", lengths=(4113,), launches=3),
    Scenario(name="4113 tokens, no initial state", lengths=(4113,), initial_state=False),
    Scenario(name="4113 tokens, no gradients", lengths=(4113,), gradients=False),
    Scenario(name="packed", lengths=(15, 1, 0, 64, 65, 300, 0)),
    # other tiles are chosen where there are more heads than a GPU has processors
    Scenario(name="many heads", lengths=(200,), batch_size=24, num_heads=4),
    Scenario(name="many heads, no gradients", lengths=(200,), batch_size=24, num_heads=4, gradients=False),
    Scenario(name="many heads, packed", lengths=(65, 1, 0, 130) * 6, num_heads=4),
    Scenario(name="decay 1", lengths=(200,), decay="1"),
    Scenario(name="no decay", lengths=(130,), decay="none"),
    Scenario(name="decay 1e-4", lengths=(200,), decay="1e-4"),
    Scenario(name="beta near 0", lengths=(200,), beta="near 0"),
    Scenario(name="beta near 1", lengths=(200,), beta="near 1"),
    Scenario(name="no beta", lengths=(130,), beta="none"),
    Scenario(name="gates rounded", lengths=(130,), rounded_gates=True),
    Scenario(name="none clipped", lengths=(200,), clipped="none"),
    Scenario(name="all clipped", lengths=(200,), clipped="all"),
    Scenario(name="near-collinear keys", lengths=(200,), collinear=True, beta="near 1"),
)
EXTREMES = ("decay", "no decay", "beta", "no beta", "gates", "none clipped", "all clipped", "near-collinear")
# for heads of 128 in 16 bits whole chunks have kernels of their own
WHOLE_CHUNKS = (
    Scenario(name="many heads, 2112 tokens", lengths=(2112,), batch_size=2, num_heads=17),
    Scenario(name="192 tokens, no initial state, no gradients", lengths=(192,), initial_state=False, gradients=False),
    # in segments
    Scenario(name="4224 tokens, no initial state", lengths=(4224,), initial_state=False),
    Scenario(name="4224 tokens, no gradients", lengths=(4224,), gradients=False),
    *(
        replace(scenario, name=f"{scenario.name}, whole chunks", lengths=(192,))
        for scenario in SCENARIOS
        if scenario.lengths in ((130,), (200,)) and scenario.name.startswith(EXTREMES)
    ),
)
CANDIDATES = (1, 2, 3, 4)
"""What the backend "triton" may time against its usual block sizes, by number."""
QUICK_SCENARIOS = (
    "step",
    "65 tokens",
    "1000 tokens",
    "1024 tokens",
    "4113 tokens",
    "4160 tokens",
    "packed",
    "many heads",
    "decay 1e-4",
    "all clipped",
    "near-collinear keys",
    "decay 1e-4, whole chunks",
    "all clipped, whole chunks",
    "near-collinear keys, whole chunks",
)


def option_sets() -> list[Options]:
    """The 22 combinations of rule, residual, clip, output and decayed_prediction."""
    return [*_option_sets(normalize_qk=False)]


def _option_sets(*, normalize_qk: bool) -> Iterator[Options]:
    for rule in ("additive", "delta"):
        common: dict[str, Any] = {"rule": rule, "normalize_qk": normalize_qk}
        yield Options(**common)
        for output in ("gated", "sum"):
            yield Options(**common, residual="value", output=output)
            for clip, decayed in product((1.0, None), (False, True)):
                yield Options(**common, residual="fit", output=output, clip=clip, decayed_prediction=decayed)


def all_cases() -> list[Case]:
    """All option sets at K = V = 128 in bfloat16 and float32, other sizes and dtypes pairwise, then the candidates."""
    cases = []
    for options, dtype in product(option_sets(), (torch.bfloat16, torch.float32)):
        cases += _cases(options, 128, 128, dtype)
    for options, K, V, dtype in pairwise_settings():
        cases += _cases(options, K, V, dtype)
    return cases + candidate_cases()


def candidate_cases() -> list[Case]:
    """Every choice of block sizes that autotuning may take, for the defaults of RDN, RLA and Gated DeltaNet."""
    scenarios = tuple(scenario for scenario in _quick_scenarios() if not scenario.step)
    return [
        replace(case, candidate=candidate)
        for options in (RDN, RLA, GATED_DELTA_NET)
        for case in _cases(options, 128, 128, torch.bfloat16, scenarios)
        for candidate in CANDIDATES
    ]


def quick_cases() -> list[Case]:
    """The defaults of four models in bfloat16 at K = V = 128; RDN also in float32, normalized, and with odd sizes."""
    scenarios = _quick_scenarios()
    normalized = Options(rule="delta", residual="fit", normalize_qk=True)
    settings = [(options, 128, 128, torch.bfloat16) for options in (RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION)]
    settings += [
        (RDN, 128, 128, torch.float32),
        (normalized, 128, 128, torch.bfloat16),
        (RDN, 64, 64, torch.float16),
    ]
    return [case for setting in settings for case in _cases(*setting, scenarios)]


def _quick_scenarios() -> tuple[Scenario, ...]:
    return tuple(scenario for scenario in (*SCENARIOS, *WHOLE_CHUNKS) if scenario.name in QUICK_SCENARIOS)


def pairwise_settings() -> list[tuple[Options, int, int, torch.dtype]]:
    """(options, K, V, dtype) in which any two values of any two settings occur together."""
    options = [*_option_sets(normalize_qk=False), *_option_sets(normalize_qk=True)]
    candidates = list(product(options, HEAD_DIMS, HEAD_DIMS, DTYPES))
    pairs_of = [set(combinations(_settings(*candidate), 2)) for candidate in candidates]
    missing = set().union(*pairs_of)
    chosen: list[tuple[Options, int, int, torch.dtype]] = []
    uses = Counter[object]()
    while missing:
        # among equals, what was used least
        best = max(
            range(len(candidates)), key=lambda n: (len(pairs_of[n] & missing), -sum(uses[x] for x in candidates[n]))
        )
        chosen.append(candidates[best])
        uses.update(candidates[best])
        missing -= pairs_of[best]
    return chosen


def _settings(options: Options, K: int, V: int, dtype: torch.dtype) -> list[tuple[str, object]]:
    clip = "bound" if options.residual == "fit" and options.clip is not None else None
    return [
        ("K", K),
        ("V", V),
        ("dtype", dtype),
        ("rule", options.rule),
        ("residual", options.residual),
        ("clip", clip),
        ("output", options.output),
        ("decayed_prediction", options.decayed_prediction),
        ("normalize_qk", options.normalize_qk),
    ]


def _cases(
    options: Options, K: int, V: int, dtype: torch.dtype, scenarios: tuple[Scenario, ...] = (*SCENARIOS, *WHOLE_CHUNKS)
) -> list[Case]:
    has_clip = options.residual == "fit" and options.clip is not None
    is_like_another = K != 128 or dtype == torch.float32
    return [
        Case(scenario=scenario, options=options, K=K, V=V, dtype=dtype)
        for scenario in scenarios
        if not (scenario in WHOLE_CHUNKS and is_like_another)
        if (has_clip or scenario.clipped == "some") and not (scenario.rounded_gates and dtype == torch.float32)
    ]

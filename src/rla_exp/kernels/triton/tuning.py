"""Autotuning: which of the candidates for the tiles is fastest for a shape, timed on the GPU at hand.

Off unless RLA_EXP_AUTOTUNE=1, and wherever PyTorch is asked for deterministic algorithms: then the tiles follow from
the shape alone, and a run's numbers from its configuration alone. Switched on, the first call of a shape is timed with
each candidate that passed a self-check of its own. The outcome is kept on disk for this GPU, compiler and these
sources, the options, sizes and dtype, and lengths and numbers of heads up to the same power of two.
"""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any, NamedTuple

import torch

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton.assembler import use_installed_assembler
from rla_exp.kernels.triton.call import Operands, usual_tiles
from rla_exp.kernels.triton.guard import Setting, self_check_all
from rla_exp.kernels.triton.plan import Switches
from rla_exp.kernels.triton.stored import environment, read_stored, stored_file, write_stored
from rla_exp.kernels.triton.tiles import Tiles, candidates

VARIABLE = "RLA_EXP_AUTOTUNE"
MIN_GAIN = 0.03
"""What a candidate must be faster by than the usual tiles, as a share: less is noise."""
REPEATS = 7


Pass = Callable[[Tiles], object]
"""Runs a pass of the call at hand with these tiles."""
Passes = Callable[[Tiles], dict[str, Pass]]
"""The passes to time, "forward" and perhaps "backward"; given the usual tiles, for what comes before them."""


class Shape(NamedTuple):
    """What a choice is made for; calls that differ in what is not here share it."""

    setting: Setting
    tokens: int
    """Of a sequence, or of all packed ones, up to the next power of two."""
    chains: int
    """Heads of all sequences together, up to the next power of two."""
    usual: Tiles


_chosen: dict[tuple[Shape, int], dict[str, Any]] = {}
_lock = threading.RLock()
_taken: list[int] = []


@contextmanager
def take_candidate(candidate: int) -> Iterator[None]:
    """Inside, every call of the process takes this candidate (the last, where its shape has fewer); for checks."""
    _taken.append(candidate)
    try:
        yield
    finally:
        _taken.pop()


def forward_tiles(x: Operands, options: Options, passes: Passes, *, keep: bool, initial_state: bool) -> Tiles | None:
    """For a forward pass, and with `keep` its backward pass; None: the usual ones. Measures on a shape's first call.

    Args:
        passes: what is timed.
        keep: whether a backward pass may follow.
        initial_state: whether the call has one; without, another kernel is compiled.
    """
    use_installed_assembler()  # the usual tiles depend on it
    if _taken or not _is_on(x):
        return _fixed(x, options)
    shape, index = _shape(x, options, keep=keep, initial_state=initial_state), x.q.device.index
    if len(candidates(shape.usual)) == 1:
        return None
    with _lock:
        record = _chosen.get((shape, index))
        if record is None:
            if torch.cuda.is_current_stream_capturing():
                return None
            record = _chosen[shape, index] = _read_or_measure(shape, index, passes)
    return _tiles_of(record, shape.usual)


def backward_tiles(x: Operands, options: Options) -> Tiles | None:
    """What was chosen when the forward pass ran; None: the usual ones."""
    if _taken or not _is_on(x):
        return _fixed(x, options)
    # the backward kernels are the same with an initial state and without
    for initial_state in (True, False):
        shape = _shape(x, options, keep=True, initial_state=initial_state)
        with _lock:
            record = _chosen.get((shape, x.q.device.index))
        if record is not None:
            return _tiles_of(record, shape.usual)
    return None


def tuned_tiles() -> list[dict[str, Any]]:
    """The choices that this process has relied on: GPU, versions, shape, candidates, their times, the fastest."""
    with _lock:
        return [dict(record) for record in _chosen.values()]


def _is_on(x: Operands) -> bool:
    value = os.environ.get(VARIABLE, "0")
    if value not in ("0", "1"):
        raise ValueError(f"the environment variable {VARIABLE} is {value!r}; allowed: '0' (fixed tiles), '1'")
    return value == "1" and x.q.is_cuda and not torch.are_deterministic_algorithms_enabled()


def _fixed(x: Operands, options: Options) -> Tiles | None:
    if not _taken or not _taken[-1]:
        return None
    known = candidates(usual_tiles(x, Switches.of(options)))
    return known[min(_taken[-1], len(known) - 1)]


def _shape(x: Operands, options: Options, *, keep: bool, initial_state: bool) -> Shape:
    chains = x.num_sequences * x.q.shape[2]
    setting = Setting.with_options(
        options,
        K=x.q.shape[-1],
        V=x.v.shape[-1],
        dtype=x.q.dtype,
        kind="equal" if x.cu_seqlens is None else "packed",
        initial_state=initial_state,
        gradients=keep,
        num_heads=chains,
        num_tokens=x.q.shape[1] if x.cu_seqlens is None else 0,
    )
    return Shape(setting, _bucket(x.q.shape[1]), _bucket(chains), usual_tiles(x, Switches.of(options)))


def _bucket(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _read_or_measure(shape: Shape, index: int, passes: Passes) -> dict[str, Any]:
    key = {
        **environment(index),
        "setting": shape.setting._asdict(),
        "tokens": shape.tokens,
        "chains": shape.chains,
        "candidates": [asdict(tiles) for tiles in candidates(shape.usual)],
    }
    file = stored_file("tiles", key)
    record = read_stored(file, "chosen", dict)
    if record is not None:
        return record
    start = perf_counter()
    found, is_conclusive = _measure(shape, index, passes)
    # another process may have been first: then all go by its choice
    record = read_stored(file, "chosen", dict)
    if record is None:
        record = {**key, **found, "seconds": round(perf_counter() - start, 1)}
        if is_conclusive:
            write_stored(file, record)
    return record


def _measure(shape: Shape, index: int, passes: Passes) -> tuple[dict[str, Any], bool]:
    """Why candidates were refused, milliseconds of the others, the fastest for each pass, by number.

    Also whether that would come out again: no candidate was refused by an accident.
    """
    known = candidates(shape.usual)
    others = range(1, len(known))
    verdicts = self_check_all([shape.setting._replace(candidate=n) for n in others], index)
    refused = {str(n): verdict.failure for n, verdict in zip(others, verdicts, strict=True) if verdict.failure}
    allowed = [n for n in range(len(known)) if str(n) not in refused]
    ms = {name: {str(n): milliseconds(run, known[n]) for n in allowed} for name, run in passes(shape.usual).items()}
    chosen = {name: _fastest(times) for name, times in ms.items()}
    return {"refused": refused, "ms": ms, "chosen": chosen}, all(verdict.is_conclusive for verdict in verdicts)


def _fastest(ms: dict[str, float]) -> int:
    best = min(ms, key=lambda n: ms[n])
    return int(best) if ms[best] < (1 - MIN_GAIN) * ms["0"] else 0


def _tiles_of(record: dict[str, Any], usual: Tiles) -> Tiles:
    """The forward kernel's tile of one choice, the backward kernels' of the other: each was checked and timed so."""
    known: list[Tiles] = candidates(usual)
    chosen: dict[str, int] = record["chosen"]
    return replace(known[chosen.get("backward", 0)], forward=known[chosen["forward"]].forward)


def milliseconds(run: Pass, tiles: Tiles) -> float:
    """Median time of a pass on the current GPU, after two that are not counted."""
    for _ in range(2):
        run(tiles)
    times: list[float] = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run(tiles)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return round(statistics.median(times), 4)

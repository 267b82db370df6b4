"""Autotuning: what is timed, chosen and kept; without a GPU, on tensors that only claim one and with given times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rla_exp.kernels import tuned_tiles
from rla_exp.kernels.triton import tuning
from rla_exp.kernels.triton.call import Operands
from rla_exp.kernels.triton.guard import Setting, Verdict
from rla_exp.kernels.triton.tiles import Gpu, Tiles, candidates, choose_tiles
from rla_exp.kernels.triton.tuning import backward_tiles, forward_tiles, take_candidate
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, RDN

HOPPER = Gpu(num_processors=132, shared_memory=227 * 1024, must_pipeline=False)
VERSIONS = {"gpu": "Fake H100", "triton": "3.6.0", "ptxas": "13.3", "sources": "abc"}


def tiles_of(num_heads: int, dtype: torch.dtype = torch.bfloat16, gpu: Gpu = HOPPER) -> Tiles:
    return choose_tiles(
        dtype, 128, 128, delta=True, predicted=True, num_heads=num_heads, num_tokens=1000, describable=False, gpu=gpu
    )


def operands(
    T: int = 1000, B: int = 4, H: int = 16, device: str = "cuda:0", dtype: torch.dtype = torch.bfloat16
) -> Operands:
    with FakeTensorMode():
        x = torch.empty(B, T, H, 128, dtype=dtype, device=device)
        gate = torch.empty(B, T, H, device=device)
    return Operands(x, x, x, gate, gate, gate, None)


class Bench:
    """Stands for the GPU: milliseconds of the candidates by pass, and which fail their self-check."""

    def __init__(self) -> None:
        self.ms = {"forward": [1.0, 0.9, 0.8, 0.7, 1.1], "backward": [4.0, 3.0, 3.5, 4.5, 2.0]}
        self.fails: set[int] = set()
        self.is_conclusive = True
        self.checked: list[Setting] = []
        self.timed: list[tuple[str, int]] = []

    def passes(self, usual: Tiles) -> dict[str, Any]:
        numbers = {tiles: n for n, tiles in enumerate(candidates(usual))}
        return {name: (name, numbers) for name in self.ms}

    def milliseconds(self, run: tuple[str, dict[Tiles, int]], tiles: Tiles) -> float:
        name, numbers = run
        self.timed.append((name, numbers[tiles]))
        return self.ms[name][numbers[tiles]]

    def self_check_all(self, settings: list[Setting], device_index: int) -> list[Verdict]:
        assert device_index == 0
        self.checked += settings
        return [
            Verdict("wrong", self.is_conclusive) if setting.candidate in self.fails else Verdict(None, True)
            for setting in settings
        ]

    def choose(
        self, x: Operands, options: Any = RDN, *, keep: bool = True, initial_state: bool = False
    ) -> Tiles | None:
        return forward_tiles(x, options, self.passes, keep=keep, initial_state=initial_state)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """A GPU on which autotuning is switched on."""
    found = Bench()
    monkeypatch.setenv(tuning.VARIABLE, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "_chosen", {})
    monkeypatch.setattr(tuning, "milliseconds", found.milliseconds)
    monkeypatch.setattr(tuning, "self_check_all", found.self_check_all)
    monkeypatch.setattr(tuning, "environment", lambda _: dict(VERSIONS))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr("rla_exp.kernels.triton.call.gpu_of", lambda _: HOPPER)
    return found


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def test_candidates_are_few_different_and_begin_with_the_usual() -> None:
    for num_heads in (16, 64):
        usual = tiles_of(num_heads)
        found = candidates(usual)
        assert found[0] == usual
        assert len(found) == len(set(found)) == 5
        assert all(tiles.C == usual.C for tiles in found)
    assert [(x.forward.BV, x.forward.num_stages) for x in candidates(tiles_of(64))] == [
        (64, 3),
        (32, 3),
        (32, 2),
        (64, 2),
        (64, 3),
    ]
    # few heads: also wider, where the prediction leaves no room for three stages
    assert [(x.reverse_S.BV, x.reverse_S.num_stages) for x in candidates(tiles_of(16))] == [
        (32, 3),
        (16, 3),
        (64, 2),
        (32, 2),
        (32, 3),
    ]
    assert [x.gradients_S.num_warps for x in candidates(tiles_of(64))] == [4, 4, 4, 4, 8]
    # no wider than V
    narrow = choose_tiles(
        torch.bfloat16,
        128,
        32,
        delta=True,
        predicted=True,
        num_heads=64,
        num_tokens=1000,
        describable=False,
        gpu=HOPPER,
    )
    assert {tiles.forward.BV for tiles in candidates(narrow)} == {16, 32}


def test_float32_and_small_chips_have_less_to_choose_from() -> None:
    assert candidates(tiles_of(64, torch.float32)) == [tiles_of(64, torch.float32)]
    small = Gpu(num_processors=108, shared_memory=163 * 1024, must_pipeline=True)
    found = candidates(tiles_of(64, gpu=small))
    # one stage is what that assembler gets wrong
    assert {tiles.forward.num_stages for tiles in found} == {2}
    assert {tiles.forward.BV for tiles in found} == {16, 32, 64}


def test_the_fastest_of_each_pass_is_taken(bench: Bench) -> None:
    x = operands()
    usual = tiles_of(64)
    assert bench.choose(x) == replace(candidates(usual)[4], forward=candidates(usual)[3].forward)
    assert backward_tiles(x, RDN) == bench.choose(x)
    assert [setting.candidate for setting in bench.checked] == [1, 2, 3, 4]
    assert {(setting.initial_state, setting.gradients) for setting in bench.checked} == {(False, True)}
    assert bench.timed == [(name, n) for name in ("forward", "backward") for n in range(5)]
    (record,) = tuned_tiles()
    assert record["chosen"] == {"forward": 3, "backward": 4}
    assert record["ms"]["forward"]["3"] == 0.7
    assert record | VERSIONS == record


def test_what_fails_its_self_check_is_not_timed(bench: Bench) -> None:
    bench.fails = {3, 4}
    usual = tiles_of(64)
    assert bench.choose(operands()) == replace(candidates(usual)[1], forward=candidates(usual)[2].forward)
    assert ("forward", 3) not in bench.timed
    assert tuned_tiles()[0]["refused"] == {"3": "wrong", "4": "wrong"}


def test_an_accident_refuses_for_this_process_alone(bench: Bench, tmp_path: Path) -> None:
    """A GPU without memory for five processes, say: what was refused then may be the fastest."""
    bench.fails, bench.is_conclusive = {3, 4}, False
    chosen = bench.choose(operands())
    assert (
        bench.choose(operands())
        == chosen
        == replace(candidates(tiles_of(64))[1], forward=candidates(tiles_of(64))[2].forward)
    )
    assert not (tmp_path / "rla_exp").exists()
    tuning._chosen.clear()
    bench.fails = set()
    assert bench.choose(operands()) != chosen
    assert len(list((tmp_path / "rla_exp" / "tiles").iterdir())) == 1


def test_kernels_with_an_initial_state_are_others(bench: Bench) -> None:
    x = operands()
    bench.choose(x, initial_state=True)
    assert {setting.initial_state for setting in bench.checked} == {True}
    chosen = backward_tiles(x, RDN)
    assert chosen is not None
    bench.checked.clear()
    bench.choose(x)
    assert {setting.initial_state for setting in bench.checked} == {False}
    assert backward_tiles(x, RDN) == chosen


def test_processes_go_by_the_first_choice(bench: Bench) -> None:
    """Another one may write while this one measures."""
    first = bench.choose(operands())
    tuning._chosen.clear()
    bench.ms = {"forward": [1.0] * 5, "backward": [1.0] * 5}
    read = tuning.read_stored
    answers = iter([None])

    def late(*arguments: Any) -> Any:
        return next(answers, read(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "read_stored", late)
        assert bench.choose(operands()) == first


def test_nothing_is_timed_where_there_is_no_choice(bench: Bench) -> None:
    assert bench.choose(operands(dtype=torch.float32)) is None
    assert not bench.checked
    assert not tuned_tiles()


def test_noise_is_no_reason_to_leave_the_usual(bench: Bench) -> None:
    bench.ms = {"forward": [1.0, 0.98, 1.0, 1.0, 1.0], "backward": [4.0, 3.87, 4.0, 4.0, 3.89]}
    usual = tiles_of(64)
    assert bench.choose(operands()) == replace(candidates(usual)[1], forward=usual.forward)


def test_lengths_share_a_choice_up_to_a_power_of_two(bench: Bench) -> None:
    def measured(x: Operands, options: Any = RDN, *, keep: bool = True) -> bool:
        before = len(bench.timed)
        bench.choose(x, options, keep=keep)
        return len(bench.timed) > before

    assert measured(operands(1000))
    assert not measured(operands(1023))
    assert not measured(operands(513, B=3))
    # whole chunks have other kernels
    assert measured(operands(1024))
    assert not measured(operands(576))
    assert measured(operands(500))
    assert measured(operands(1025))
    assert measured(operands(1000, B=8))
    assert measured(operands(1000), GATED_DELTA_NET)
    assert measured(operands(1000), keep=False)


def test_choices_are_kept_on_disk(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_a_new_process() -> Tiles | None:
        tuning._chosen.clear()
        bench.timed.clear()
        return bench.choose(operands())

    first = in_a_new_process()
    assert bench.timed
    assert in_a_new_process() == first
    assert not bench.timed
    (file,) = (tmp_path / "rla_exp" / "tiles").iterdir()
    stored = json.loads(file.read_text())
    assert stored["chosen"] == {"forward": 3, "backward": 4}
    assert stored["tokens"] == 1024
    assert stored["chains"] == 64
    assert len(stored["candidates"]) == 5

    file.write_text("{")
    assert in_a_new_process() == first
    assert bench.timed
    for name in VERSIONS:
        monkeypatch.setattr(tuning, "environment", lambda _, name=name: {**VERSIONS, name: "other"})
        in_a_new_process()
        assert bench.timed


def test_fixed_choices(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    x = operands()
    bench.choose(x)
    with deterministic():
        assert bench.choose(x) is None
        assert backward_tiles(x, RDN) is None
    for value in ("0", None):
        if value is None:
            monkeypatch.delenv(tuning.VARIABLE)
        else:
            monkeypatch.setenv(tuning.VARIABLE, value)
        assert bench.choose(x) is None
        assert backward_tiles(x, RDN) is None
    monkeypatch.setenv(tuning.VARIABLE, "yes")
    with pytest.raises(ValueError, match=re.escape("RLA_EXP_AUTOTUNE is 'yes'; allowed: '0' (fixed tiles), '1'")):
        bench.choose(x)


def test_nothing_is_timed_while_a_graph_is_captured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert bench.choose(operands()) is None
    assert not bench.timed
    assert not tuned_tiles()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    chosen = bench.choose(operands())
    assert chosen is not None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert bench.choose(operands()) == chosen


def test_nothing_is_chosen_on_a_cpu(bench: Bench) -> None:
    assert bench.choose(operands(device="cpu")) is None
    assert not bench.timed


def test_a_check_takes_the_candidate_that_it_names(bench: Bench) -> None:
    x = operands()
    known = candidates(tiles_of(64))
    with take_candidate(2):
        assert bench.choose(x) == backward_tiles(x, RDN) == known[2]
        with take_candidate(0):
            assert bench.choose(x) is None
    with take_candidate(99):
        assert bench.choose(x) == known[-1]
    assert not bench.timed

"""Which backend computes, and the self-check that "triton" must pass; without a GPU, on tensors that only claim one."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rla_exp.kernels import State, linear_attention, linear_attention_step, selection
from rla_exp.kernels.chunked import chunked
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options
from rla_exp.kernels.recurrent import recurrent
from rla_exp.kernels.selection import available_backends, select_backend, select_step
from rla_exp.kernels.step import step
from rla_exp.kernels.triton import guard
from rla_exp.kernels.triton.guard import Setting, self_check, self_checks
from rla_exp.kernels.triton.isolated import measure, summarize
from rla_exp.kernels.verify.cases import RDN
from rla_exp.kernels.verify.measure import CaseResult

GPU = {"gpu": "Fake H100", "triton": "3.6.0", "ptxas": "12.8", "sources": "abc"}


def inputs(K: int = 64, V: int = 32, dtype: torch.dtype = torch.bfloat16, device: str = "cuda:0") -> Inputs:
    """Of three tokens, or of a batch of three for the step."""
    with FakeTensorMode():
        q = torch.empty(1, 3, 2, K, dtype=dtype, device=device)
        v = torch.empty(1, 3, 2, V, dtype=dtype, device=device)
        gamma = torch.empty(1, 3, 2, dtype=dtype, device=device)
    return Inputs(q=q, k=q, v=v, g=None, beta=None, gamma=gamma, initial_state=None)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Setting]]:
    """The settings that were measured. There is a GPU that passes, unless `outcome` says otherwise."""
    settings: list[Setting] = []

    def measure(setting: Setting, device: str) -> dict[str, Any]:
        assert device == "cuda:0"
        settings.append(setting)
        return summarize([measure.outcome])

    measure.outcome = CaseResult("65 tokens", {"o": 1e-3})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guard, "_outcomes", {})
    monkeypatch.setattr(guard, "measure", measure)
    monkeypatch.setattr(guard, "environment", lambda _: dict(GPU))
    monkeypatch.setattr(selection, "missing", lambda _: None)
    selection._has_warned.clear()
    yield settings
    selection._has_warned.clear()


@pytest.fixture
def fails(measured: list[Setting]) -> None:
    guard.measure.outcome = CaseResult("65 tokens", {"o": 1e-2}, failures=["o 1.00e-02 > 5e-03"])  # type: ignore[attr-defined]


pytest.importorskip("triton", reason="triton exists for Linux only")


def test_auto_takes_the_kernels_on_a_gpu_that_passes(measured: list[Setting]) -> None:
    from rla_exp.kernels.triton.operator import triton_attention
    from rla_exp.kernels.triton.step import triton_step

    x = inputs()
    assert select_backend("auto", x, RDN) is triton_attention
    assert select_backend("triton", x, RDN) is triton_attention
    assert select_backend("chunked", x, RDN) is chunked
    assert select_backend("recurrent", x, RDN) is recurrent
    assert select_step("auto", x, RDN) is triton_step
    assert select_step("recurrent", x, RDN) is step
    assert [setting.kind for setting in measured] == ["equal", "step"]
    assert measured[0] == Setting(
        "delta", "fit", True, "gated", False, False, 64, 32, "bfloat16", "equal", initial_state=False, gradients=False
    )
    assert [outcome["setting"]["kind"] for outcome in self_checks()] == ["equal", "step"]


@pytest.mark.parametrize(
    ("x", "need"),
    [
        (inputs(device="cpu"), "tensors on a CUDA GPU, and these are on cpu"),
        (inputs(dtype=torch.float64), "inputs of at most 32 bits, and these are float64"),
        (inputs(K=48), "K and V in {32, 64, 96, 128, 256}"),
        (inputs(V=512), "K and V in {32, 64, 96, 128, 256}"),
    ],
)
def test_what_the_kernels_lack(x: Inputs, need: str, measured: list[Setting]) -> None:
    assert select_backend("auto", x, RDN) is chunked
    with pytest.raises(ValueError, match=re.escape(need) + "; allowed here: 'auto', 'recurrent', 'chunked'"):
        select_backend("triton", x, RDN)
    assert not measured


def test_the_step_has_more_sizes_and_no_gradients(measured: list[Setting]) -> None:
    from rla_exp.kernels.triton.step import triton_step

    assert select_step("triton", inputs(K=1, V=200), RDN) is triton_step
    assert select_step("auto", inputs(K=300), RDN) is step
    x = inputs()
    x.q.requires_grad_()
    assert select_step("auto", x, RDN) is step
    with pytest.raises(ValueError, match="needs no gradients for a single step"):
        select_step("triton", x, RDN)
    with torch.no_grad():
        assert select_step("triton", x, RDN) is triton_step


def test_a_gpu_that_cannot(monkeypatch: pytest.MonkeyPatch, measured: list[Setting]) -> None:
    monkeypatch.setattr(selection, "missing", lambda _: "an NVIDIA GPU of compute capability 8.0 or higher")
    assert select_backend("auto", inputs(), RDN) is chunked
    with pytest.raises(ValueError, match=r"K=64, V=32 on cuda:0 needs an NVIDIA GPU of compute capability 8.0"):
        select_backend("triton", inputs(), RDN)


@pytest.mark.usefixtures("fails")
def test_a_failed_self_check_is_told_once() -> None:
    reason = "its self-check on Fake H100 with triton 3.6.0 and ptxas 12.8 failed: 65 tokens: o 1.00e-02 > 5e-03"
    with pytest.raises(ValueError, match=re.escape(f"backend='triton' is refused: {reason}")):
        select_backend("triton", inputs(), RDN)
    with pytest.warns(RuntimeWarning, match=re.escape(f"'chunked' instead of 'triton': {reason}")) as caught:
        assert select_backend("auto", inputs(), RDN) is chunked
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert select_backend("auto", inputs(), RDN) is chunked
        assert select_step("auto", inputs(), RDN) is step


def test_what_is_measured_is_what_differs(measured: list[Setting]) -> None:
    x = inputs()
    for call in (
        (x, RDN),
        (x, replace(RDN, clip=2.0, scale=3.0)),
        (inputs(K=128), RDN),
        (x, replace(RDN, normalize_qk=True)),
        (replace(x, offsets=(0, 1, 3)), RDN),
        (x, RDN),
    ):
        select_backend("auto", *call)
    assert len(measured) == 4
    x.q.requires_grad_()
    select_backend("auto", x, RDN)
    assert [setting.gradients for setting in measured] == [False] * 4 + [True]


def test_outcomes_are_kept_for_the_same_gpu_compiler_and_sources(
    monkeypatch: pytest.MonkeyPatch, measured: list[Setting], tmp_path: Path
) -> None:
    setting = Setting.of(inputs(), RDN, step=False, gradients=True)

    def check_in_a_new_process() -> None:
        guard._outcomes.clear()
        assert self_check(setting, 0) is None

    check_in_a_new_process()
    check_in_a_new_process()
    assert len(measured) == 1
    (file,) = (tmp_path / "rla_exp" / "self_checks").iterdir()
    stored = json.loads(file.read_text())
    assert stored["errors"] == {"65 tokens": {"o": 1e-3}}
    assert stored["setting"]["K"] == 64
    assert stored | GPU == stored

    file.write_text("{")
    check_in_a_new_process()
    assert len(measured) == 2
    for name in ("gpu", "triton", "ptxas", "sources"):
        monkeypatch.setattr(guard, "environment", lambda _, name=name: {**GPU, name: "other"})
        check_in_a_new_process()
    assert len(measured) == 6


def test_an_error_without_numbers_is_not_kept(measured: list[Setting], tmp_path: Path) -> None:
    guard.measure.outcome = CaseResult("65 tokens", failures=["OutOfMemoryError: none left"])  # type: ignore[attr-defined]
    setting = Setting.of(inputs(), RDN, step=False, gradients=True)
    assert "none left" in str(self_check(setting, 0))
    assert not (tmp_path / "rla_exp").exists()


def test_an_illegal_access_is_kept(measured: list[Setting], tmp_path: Path) -> None:
    """It would come again in every process; what it broke is the measuring process alone."""
    outcome = CaseResult("65 tokens", failures=["CUDA error: an illegal memory access"], context_is_broken=True)
    guard.measure.outcome = outcome  # type: ignore[attr-defined]
    setting = Setting.of(inputs(), RDN, step=False, gradients=True)
    for _ in range(2):
        guard._outcomes.clear()
        assert "illegal memory access" in str(self_check(setting, 0))
    assert len(measured) == 1


def test_another_process_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    x = replace(inputs(K=8, V=8, dtype=torch.float32), initial_state=State(torch.zeros(1), None))
    setting = Setting.of(x, RDN, step=True, gradients=False)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    outcome = measure(setting, "cpu")
    assert outcome["failures"] == []
    assert outcome["is_conclusive"]
    assert 0 < outcome["errors"]["delta fit clip 1 gated 8x8 float32: 1 tokens, 2 x 2"]["o"] < 1e-6

    # no such device
    outcome = measure(setting, "xla")
    assert not outcome["is_conclusive"]
    assert outcome["failures"]
    outcome = measure(setting, "no device")
    assert not outcome["is_conclusive"]
    assert "its process ended with exit code 1 and said RuntimeError: " in outcome["failures"][0]


def test_a_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, measured: list[Setting], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert self_check(Setting.of(inputs(), RDN, step=False, gradients=True), 0) is None


@pytest.mark.parametrize("kind", ["equal", "packed", "step"])
def test_cases_of_a_setting_compile_what_it_names(kind: str) -> None:
    x = inputs()
    x = replace(x, offsets=(0, 3)) if kind == "packed" else x
    x = replace(x, initial_state=State(x.q, x.q)) if kind == "step" else x
    options = Options(rule="additive", residual="fit", clip=None, output="sum", decayed_prediction=True)
    setting = Setting.of(x, options, step=kind == "step", gradients=kind != "step")
    for case in setting.cases():
        assert case.options == options
        assert (case.K, case.V, case.dtype) == (64, 32, torch.bfloat16)
        assert case.scenario.step == (kind == "step")
        assert case.scenario.gradients == (kind != "step")
        assert case.scenario.initial_state == (kind == "step")
        assert (len(case.scenario.lengths) > 1) == (kind == "packed")


def test_torch_compile_takes_the_answer_as_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def check(setting: Setting, device_index: int) -> str | None:
        asked.append(setting)
        return None

    monkeypatch.setattr(selection, "self_check", check)

    def call(q: torch.Tensor) -> torch.Tensor:
        x = Inputs(q=q, k=q, v=q, g=None, beta=None, gamma=None, initial_state=None)
        setting = Setting.of(x, Options(rule="delta"), step=False, gradients=selection._needs_gradients(x))
        return q + 1 if selection._refusal(tuple(setting), 0, True) is None else q - 1

    compiled = torch.compile(call, fullgraph=True, backend="eager")
    q = torch.zeros(1, 4, 2, 32)
    for _ in range(2):
        assert compiled(q).eq(1).all()
    assert [(setting.K, setting.gradients) for setting in asked] == [(32, False)]
    # other sizes are symbols in what is compiled, and never part of a setting
    for length in (5, 6, 5000):
        assert compiled(torch.zeros(2, length, 2, 32)).eq(1).all()
    assert [setting.may_cut for setting in asked] == [False, False, True]
    asked.clear()
    torch.compiler.reset()
    for length in (65, 128, 100, 192):
        assert compiled(torch.zeros(2, length, 2, 128, dtype=torch.bfloat16)).eq(1).all()
    assert {setting.may_describe for setting in asked} == {False, True}


def test_available_backends() -> None:
    assert available_backends("cpu") == ("auto", "recurrent", "chunked")
    assert available_backends("cuda") == ("auto", "recurrent", "chunked", "triton")


def test_the_public_functions_refuse_triton_on_a_cpu() -> None:
    q = torch.zeros(1, 4, 2, 32)
    with pytest.raises(ValueError, match="needs tensors on a CUDA GPU, and these are on cpu"):
        linear_attention(q, q, q, rule="delta", backend="triton")
    state = State(torch.zeros(1, 2, 32, 32), None)
    with pytest.raises(ValueError, match="needs tensors on a CUDA GPU, and these are on cpu"):
        linear_attention_step(q[:, 0], q[:, 0], q[:, 0], state=state, rule="delta", backend="triton")

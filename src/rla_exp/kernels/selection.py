"""Which backend computes a call."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, get_args

import torch
from torch import Tensor

from rla_exp.kernels.chunked import chunked
from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import BackendName, Options, check_choice
from rla_exp.kernels.recurrent import recurrent
from rla_exp.kernels.state import State
from rla_exp.kernels.step import step
from rla_exp.kernels.triton.guard import Setting, self_check

Backend = Callable[[Inputs, Options], tuple[Tensor, State]]
Step = Callable[..., tuple[Tensor, State]]

HEAD_DIMS = (32, 64, 96, 128, 256)
"""K and V that the kernels of "triton" have; its step has any up to MAX_STEP_HEAD_DIM."""
MAX_STEP_HEAD_DIM = 256
MIN_CAPABILITY = (8, 0)


def available_backends(device_type: str) -> tuple[BackendName, ...]:
    """Those that may compute on "cpu" or "cuda"; whether a GPU passes the self-check of "triton" is not yet known."""
    always: tuple[BackendName, ...] = ("auto", "recurrent", "chunked")
    return (*always, "triton") if device_type == "cuda" and find_spec("triton") is not None else always


def select_backend(name: BackendName, inputs: Inputs, options: Options) -> Backend:
    """What computes a sequence; gets checked inputs in the caller's dtypes, returns o in v's dtype and the last state.

    Raises:
        ValueError: there is no such backend, or "triton" cannot compute this call here; says why.
    """
    check_choice("backend", name, get_args(BackendName))
    if name == "recurrent":
        return recurrent
    if name == "chunked":
        return chunked
    sizes_fit = inputs.q.shape[-1] in HEAD_DIMS and inputs.v.shape[-1] in HEAD_DIMS
    sizes = ", ".join(map(str, HEAD_DIMS))
    if _is_for_triton(name, inputs, options, None if sizes_fit else f"K and V in {{{sizes}}}", is_step=False):
        from rla_exp.kernels.triton.operator import triton_attention

        return triton_attention
    return chunked


def select_step(name: BackendName, inputs: Inputs, options: Options) -> Step:
    """What computes one token: called with (inputs, options, inplace=...).

    The kernel has no gradients: where they are needed "auto" takes PyTorch's step.

    Raises:
        ValueError: there is no such backend, or "triton" cannot compute this call here; says why.
    """
    check_choice("backend", name, get_args(BackendName))
    if name in ("recurrent", "chunked"):
        return step
    need = None
    if max(inputs.q.shape[-1], inputs.v.shape[-1]) > MAX_STEP_HEAD_DIM:
        need = f"K and V up to {MAX_STEP_HEAD_DIM}"
    elif _needs_gradients(inputs):
        need = "no gradients for a single step: call it under torch.no_grad()"
    if _is_for_triton(name, inputs, options, need, is_step=True):
        from rla_exp.kernels.triton.step import triton_step

        return triton_step
    return step


def _is_for_triton(name: BackendName, inputs: Inputs, options: Options, need: str | None, *, is_step: bool) -> bool:
    """Whether the kernels compute this; "triton" raises where they cannot.

    need: what this call would have to be like but is not, if anything.
    """
    q = inputs.q
    if not q.is_cuda:
        need = f"tensors on a CUDA GPU, and these are on {q.device}"
    elif inputs.compute_dtype == torch.float64:
        need = "inputs of at most 32 bits, and these are float64"
    elif need is None:
        need = _missing_here(q.device.index)
    if need is not None:
        if name == "triton":
            raise ValueError(
                f"backend='triton' with K={q.shape[-1]}, V={inputs.v.shape[-1]} on {q.device} needs {need}; "
                "allowed here: 'auto', 'recurrent', 'chunked'"
            )
        return False
    setting = Setting.of(inputs, options, step=is_step, gradients=not is_step and _needs_gradients(inputs))
    failure = _refusal(tuple(setting), q.device.index, name == "auto")
    if failure is not None and name == "triton":
        raise ValueError(f"backend='triton' is refused: {failure}; allowed here: 'auto', 'recurrent', 'chunked'")
    return failure is None


def _needs_gradients(inputs: Inputs) -> bool:
    state = inputs.initial_state or ()
    given = (inputs.q, inputs.k, inputs.v, inputs.g, inputs.beta, inputs.gamma, *state)
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)


# torch.compile takes the answers of these two as they are when it traces
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _missing_here(device_index: int) -> str | None:
    return missing(device_index)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _refusal(setting: tuple[Any, ...], device_index: int, falls_back: bool) -> str | None:
    # a plain tuple: of a named one the compiler makes a broken copy
    failure = self_check(Setting(*setting), device_index)
    if failure is not None and falls_back:
        _warn_once(failure)
    return failure


@cache
def missing(device_index: int) -> str | None:
    """What a CUDA device lacks to run Triton's kernels; None: nothing."""
    if find_spec("triton") is None:
        return "the package triton, which exists for Linux"
    if torch.cuda.get_device_capability(device_index) < MIN_CAPABILITY or torch.version.hip:
        return "an NVIDIA GPU of compute capability 8.0 or higher"
    return None


_has_warned = threading.Event()


def _warn_once(failure: str) -> None:
    if not _has_warned.is_set():
        _has_warned.set()
        warnings.warn(f"backend='auto' takes 'chunked' instead of 'triton': {failure}", RuntimeWarning, stacklevel=2)

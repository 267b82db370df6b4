"""The tensors of one call, checked; and what every PyTorch backend does with them first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from rla_exp.kernels.options import Options
from rla_exp.kernels.state import State

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# added to the squared norm, as flash-linear-attention does: a zero vector stays zero and has a gradient
L2_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The tensors of one call. `tokens` is (B, T) for a sequence, (B,) for one step; shapes below leave it open.

    offsets: the values of cu_seqlens on the host, None without packing.
    """

    q: Tensor  # [*tokens, H, K]
    k: Tensor  # [*tokens, H, K]
    v: Tensor  # [*tokens, H, V]
    g: Tensor | None  # [*tokens, H]
    beta: Tensor | None  # [*tokens, H]
    gamma: Tensor | None  # [*tokens, H]
    initial_state: State | None  # [N, H, K, V]
    offsets: tuple[int, ...] | None = None

    @property
    def num_sequences(self) -> int:
        """N: sequences with a state of their own."""
        return self.q.shape[0] if self.offsets is None else len(self.offsets) - 1

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """[N, H, K, V]."""
        return self.num_sequences, self.q.shape[-2], self.q.shape[-1], self.v.shape[-1]

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 when any input is, else float32."""
        given = (self.q, self.k, self.v, self.g, self.beta, self.gamma)
        return torch.float64 if any(x is not None and x.dtype == torch.float64 for x in given) else torch.float32

    def upcast(self) -> Inputs:
        """The same call in the dtype that it is computed in."""

        def cast(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(self.compute_dtype)

        dtype = self.compute_dtype
        return replace(
            self,
            q=self.q.to(dtype),
            k=self.k.to(dtype),
            v=self.v.to(dtype),
            g=cast(self.g),
            beta=cast(self.beta),
            gamma=cast(self.gamma),
        )

    def first_state(self, options: Options) -> State:
        """The initial state, zeros where none was given."""
        if self.initial_state is not None:
            return self.initial_state
        S = self.q.new_zeros(self.state_shape, dtype=self.compute_dtype)
        return State(S, torch.zeros_like(S) if options.has_residual else None)

    def scaled_qk(self, options: Options) -> tuple[Tensor, Tensor]:
        """q and k as the recurrence takes them: normalized if asked for, q scaled."""
        q, k = (l2_normalize(self.q), l2_normalize(self.k)) if options.normalize_qk else (self.q, self.k)
        return q * options.query_scale(q.shape[-1]), k


def l2_normalize(x: Tensor) -> Tensor:
    """x / sqrt(|x|^2 + 1e-6) along the last axis."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + L2_EPS)


def check_tensors(inputs: Inputs, options: Options, tokens: tuple[str, ...]) -> None:
    """Raise ValueError naming the first tensor whose presence, type, shape or device is wrong.

    tokens: names of the axes before H, ("B", "T") or ("B",).
    """
    if options.has_residual and inputs.gamma is None:
        raise ValueError(
            f"gamma=None with residual={options.residual!r}; allowed: a tensor of shape [{_axes(tokens)}, H]"
        )
    if not options.has_residual and inputs.gamma is not None:
        raise ValueError("gamma was given with residual='off', which has no second state; allowed: gamma=None")

    q, v = inputs.q, inputs.v
    _check_float("q", q)
    if q.dim() != len(tokens) + 2 or 0 in q.shape:
        raise ValueError(f"q has shape {_shape(q)}; allowed: [{_axes(tokens)}, H, K] with no empty axis")
    axes = "q's " + f"[{_axes(tokens)}, H]"
    _check_like("k", inputs.k, q, q.shape, "q's shape")
    _check_float("v", v)
    if v.shape[:-1] != q.shape[:-1] or v.shape[-1] == 0:
        raise ValueError(f"v has shape {_shape(v)}; allowed: {axes} = {_shape(q[..., 0])} and then V >= 1")
    _check_device("v", v, q)
    for name, gate in (("g", inputs.g), ("beta", inputs.beta), ("gamma", inputs.gamma)):
        if gate is not None:
            _check_like(name, gate, q, q.shape[:-1], axes)


def check_state(name: str, state: State, inputs: Inputs, options: Options) -> None:
    """Raise ValueError unless the state fits the call."""
    if not (isinstance(state, tuple) and len(state) == 2):
        raise ValueError(f"{name} is a {type(state).__name__}; allowed: rla_exp.kernels.State(S, R)")
    if options.has_residual and state[1] is None:
        raise ValueError(f"{name}.R=None with residual={options.residual!r}; allowed: a tensor like S")
    if not options.has_residual and state[1] is not None:
        raise ValueError(f"{name}.R was given with residual='off', which has no second state; allowed: R=None")
    for part, x in (("S", state[0]), ("R", state[1])):
        if x is None and part == "R":
            continue
        full = f"{name}.{part}"
        if not isinstance(x, Tensor):
            raise ValueError(f"{full} is a {type(x).__name__}; allowed: a tensor")
        _check_dense(full, x)
        if x.dtype != inputs.compute_dtype:
            raise ValueError(f"{full} has dtype {x.dtype}; allowed with these inputs: {inputs.compute_dtype}")
        if tuple(x.shape) != inputs.state_shape:
            raise ValueError(f"{full} has shape {_shape(x)}; allowed: [N, H, K, V] = {list(inputs.state_shape)}")
        _check_device(full, x, inputs.q)


def read_offsets(cu_seqlens: Tensor, q: Tensor) -> tuple[int, ...]:
    """cu_seqlens on the host (waits for the device it lies on), checked against q [1, T, H, K]."""
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.dtype not in (torch.int32, torch.int64):
        what = cu_seqlens.dtype if isinstance(cu_seqlens, Tensor) else type(cu_seqlens).__name__
        raise ValueError(f"cu_seqlens is {what}; allowed: an int32 or int64 tensor")
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2:
        raise ValueError(f"cu_seqlens has shape {_shape(cu_seqlens)}; allowed: [N + 1] with N >= 1")
    if q.shape[0] != 1:
        raise ValueError(f"cu_seqlens with q of shape {_shape(q)}; allowed: B = 1, the T axis packs the sequences")
    offsets = tuple(int(x) for x in cu_seqlens.tolist())
    if offsets[0] != 0 or offsets[-1] != q.shape[1] or any(a > b for a, b in pairwise(offsets)):
        raise ValueError(f"cu_seqlens={list(offsets)}; allowed: rising from 0 to T = {q.shape[1]}")
    return offsets


def _check_float(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}; allowed: a tensor")
    if x.dtype not in FLOAT_DTYPES:
        allowed = ", ".join(str(dtype) for dtype in FLOAT_DTYPES)
        raise ValueError(f"{name} has dtype {x.dtype}; allowed: {allowed}")
    _check_dense(name, x)


def _check_dense(name: str, x: Tensor) -> None:
    if x.layout != torch.strided:
        raise ValueError(f"{name} has layout {x.layout}; allowed: torch.strided, a dense tensor")


def _check_like(name: str, x: Tensor, q: Tensor, shape: torch.Size, meaning: str) -> None:
    _check_float(name, x)
    if x.shape != shape:
        raise ValueError(f"{name} has shape {_shape(x)}; allowed: {meaning} = {list(shape)}")
    _check_device(name, x, q)


def _check_device(name: str, x: Tensor, q: Tensor) -> None:
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device}; allowed: q's device, {q.device}")


def _axes(tokens: tuple[str, ...]) -> str:
    return ", ".join(tokens)


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)

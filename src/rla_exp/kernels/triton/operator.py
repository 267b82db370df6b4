"""The fused kernels as a PyTorch operator: autograd, torch.compile, and the backend that the dispatch calls."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any, cast

import torch
from torch import Tensor

from rla_exp.kernels.inputs import Inputs
from rla_exp.kernels.options import Options, Output, Residual, Rule
from rla_exp.kernels.state import State
from rla_exp.kernels.triton.backward import fused_backward
from rla_exp.kernels.triton.call import Operands, Saved
from rla_exp.kernels.triton.launch import fused_forward
from rla_exp.kernels.triton.plan import Chunking, clip_bounds
from rla_exp.kernels.triton.tiles import Tiles, chunk_size
from rla_exp.kernels.triton.tuning import Pass, backward_tiles, forward_tiles


def triton_attention(inputs: Inputs, options: Options) -> tuple[Tensor, State]:
    """o [B, T, H, V] in v's dtype and the final state, by the fused kernels; the backend "triton"."""
    x = operands(inputs, options)
    state = inputs.initial_state
    S, R = (None, None) if state is None else state
    differentiated = (*x[:6], S, R)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in differentiated)
    clip = -1.0 if options.clip is None else float(options.clip)
    o, final_S, final_R, *_ = fused_attention(
        *x,
        S,
        R,
        options.rule,
        options.residual,
        clip,
        options.output,
        options.decayed_prediction,
        options.normalize_qk,
        options.query_scale(x.q.shape[-1]),
        keep,
    )
    return o.to(inputs.v.dtype), State(final_S, final_R if options.has_residual else None)


@torch.no_grad()
def clip_mask(inputs: Inputs, options: Options) -> Tensor:
    """[B, T, H, V], True where the kernels' own residual was not clipped (gradients pass there)."""
    x = operands(inputs, options)
    assert options.clip is not None
    S, R = (None, None) if inputs.initial_state is None else inputs.initial_state
    with _current(x.q.device):
        tiles = forward_tiles(
            x, options, partial(_passes, x, options, S, R, True), keep=True, initial_state=S is not None
        )
        *_, saved = fused_forward(x, options, S, R, keep=True, tiles=tiles)
    assert saved.r is not None
    return saved.r.abs() <= clip_bounds(options.clip, saved.r.dtype)[0]


def operands(inputs: Inputs, options: Options) -> Operands:
    """The tensors of a call as the kernels take them; q, k, v of different dtypes meet in their common one."""
    q, k, v = inputs.q, inputs.k, inputs.v
    dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
    q, k, v = (x.to(dtype).contiguous() for x in (q, k, v))
    gates = q.shape[:-1]
    g = q.new_zeros(gates, dtype=torch.float32) if inputs.g is None else inputs.g.float().contiguous()
    beta = q.new_ones(gates, dtype=torch.float32) if inputs.beta is None else inputs.beta.float().contiguous()
    gamma = inputs.gamma.float().contiguous() if options.has_residual and inputs.gamma is not None else None
    cu_seqlens = None if inputs.offsets is None else _on_device(inputs.offsets, q.device)
    return Operands(q, k, v, g, beta, gamma, cu_seqlens)


@lru_cache(maxsize=64)
def _on_device(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(offsets, dtype=torch.int64, device=device)


def _read_options(
    rule: str, residual: str, clip: float, output: str, decayed_prediction: bool, normalize_qk: bool, scale: float
) -> Options:
    """From an operator's arguments: a schema has no missing numbers, so without a clip it is negative there."""
    limit = {"clip": None if clip < 0 else clip} if residual == "fit" else {}
    return Options(
        rule=cast(Rule, rule),
        residual=cast(Residual, residual),
        output=cast(Output, output),
        decayed_prediction=decayed_prediction,
        normalize_qk=normalize_qk,
        scale=scale,
        **limit,
    )


@torch.library.custom_op("rla_exp::fused_attention", mutates_args=())
def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    gamma: Tensor | None,
    cu_seqlens: Tensor | None,
    S: Tensor | None,
    R: Tensor | None,
    rule: str,
    residual: str,
    clip: float,
    output: str,
    decayed_prediction: bool,
    normalize_qk: bool,
    scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """o, the final S and R, and with `keep` what is `Saved`; what is not there: empty.

    Tensors as in `Operands`; clip below 0: none.
    """
    options = _read_options(rule, residual, clip, output, decayed_prediction, normalize_qk, scale)
    x = Operands(q, k, v, g, beta, gamma, cu_seqlens)
    S, R = (None if state is None else state.contiguous() for state in (S, R))
    with _current(q.device):
        tiles = forward_tiles(
            x, options, partial(_passes, x, options, S, R, keep), keep=keep, initial_state=S is not None
        )
        o, final_S, final_R, saved = fused_forward(x, options, S, R, keep=keep, tiles=tiles)
    present = (_present(q, x) for x in (final_R, *saved))
    return o, final_S, *present  # type: ignore[return-value]


def _passes(
    x: Operands, options: Options, S: Tensor | None, R: Tensor | None, keep: bool, usual: Tiles
) -> dict[str, Pass]:
    """The passes of a call, to be timed: without `keep` there is no backward pass."""

    def forward(tiles: Tiles) -> tuple[Tensor, Tensor, Tensor | None, Saved]:
        return fused_forward(x, options, S, R, keep=keep, tiles=tiles)

    if not keep:
        return {"forward": forward}
    o, final_S, final_R, saved = forward(usual)
    # any upstream gradients take as long as the right ones
    return {
        "forward": forward,
        "backward": lambda tiles: fused_backward(x, options, saved, o, final_S, final_R, tiles=tiles),
    }


def _current(device: torch.device) -> AbstractContextManager[object]:
    # Triton launches on the current device; its interpreter runs on the CPU
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _present(q: Tensor, x: Tensor | None) -> Tensor:
    return q.new_empty(0) if x is None else x


def _absent(x: Tensor) -> Tensor | None:
    return x if x.numel() else None


@fused_attention.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shapes alone, for torch.compile."""
    x, (rule, residual, keep) = Operands(*arguments[:7]), (*arguments[9:11], arguments[16])
    q, v, has_residual = x.q, x.v, residual != "off"
    C, num_inverses = chunk_size(q.dtype), (1 + has_residual) if keep and rule == "delta" else 0
    chunking = Chunking(C, x.num_sequences, q.shape[1], x.cu_seqlens, None, None)
    num_chunks = chunking.num_rows(chunking.chunks_per_sequence)

    def state(rows: int, present: bool) -> Tensor:
        shape = (rows, *q.shape[2:], v.shape[-1])
        return q.new_empty(shape, dtype=torch.float32) if present else q.new_empty(0)

    return (
        torch.empty_like(v),
        state(x.num_sequences, True),
        state(x.num_sequences, has_residual),
        torch.empty_like(v) if keep and residual == "fit" else q.new_empty(0),
        state(chunking.num_checkpoints, keep),
        state(chunking.num_checkpoints, keep and has_residual),
        q.new_empty((num_chunks, q.shape[2], num_inverses, C, C) if num_inverses else 0),
    )


@torch.library.custom_op("rla_exp::fused_attention_backward", mutates_args=())
def fused_attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    gamma: Tensor | None,
    cu_seqlens: Tensor | None,
    r: Tensor,
    saved_S: Tensor,
    saved_R: Tensor,
    inverses: Tensor,
    do: Tensor,
    dS: Tensor | None,
    dR: Tensor | None,
    rule: str,
    residual: str,
    clip: float,
    output: str,
    decayed_prediction: bool,
    normalize_qk: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g, beta, gamma and of the initial S and R; what is not there: empty."""
    options = _read_options(rule, residual, clip, output, decayed_prediction, normalize_qk, scale)
    x = Operands(q, k, v, g, beta, gamma, cu_seqlens)
    saved = Saved(*(_absent(part) for part in (r, saved_S, saved_R, inverses)))
    with _current(q.device):
        gradients = fused_backward(x, options, saved, do, dS, dR, tiles=backward_tiles(x, options))
    return tuple(_present(q, gradient) for gradient in gradients)  # type: ignore[return-value]


@fused_attention_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shapes alone, for torch.compile."""
    x = Operands(*arguments[:7])
    state = x.q.new_empty((x.num_sequences, *x.q.shape[2:], x.v.shape[-1]), dtype=torch.float32)
    return (
        torch.empty_like(x.q),
        torch.empty_like(x.k),
        torch.empty_like(x.v),
        torch.empty_like(x.g),
        torch.empty_like(x.beta),
        x.q.new_empty(0) if x.gamma is None else torch.empty_like(x.gamma),
        state,
        x.q.new_empty(0) if x.gamma is None else torch.empty_like(state),
    )


NUM_TENSORS = 9  # of the forward operator's arguments
NUM_OPTIONS = 7


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    saved = output[3:]
    # gradients that do not arrive stay None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*saved)
    ctx.save_for_backward(*inputs[: NUM_TENSORS - 2], *saved)
    ctx.options = inputs[NUM_TENSORS : NUM_TENSORS + NUM_OPTIONS]
    ctx.has_state = tuple(state is not None for state in inputs[NUM_TENSORS - 2 : NUM_TENSORS])


def _backward(ctx: Any, do: Tensor | None, dS: Tensor | None, dR: Tensor | None, *_: object) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    x = saved[: NUM_TENSORS - 2]
    if do is None:
        do = torch.zeros_like(x[2])
    *gradients, d_gamma, d_S, d_R = fused_attention_backward(*saved, do, dS, dR, *ctx.options)
    has_S, has_R = ctx.has_state
    return (
        *gradients,
        None if x[5] is None else d_gamma,
        None,
        d_S if has_S else None,
        d_R if has_R else None,
        *(None for _ in range(NUM_OPTIONS + 1)),
    )


fused_attention.register_autograd(_backward, setup_context=_setup)

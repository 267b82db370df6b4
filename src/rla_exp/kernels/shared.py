"""What both states share in a chunk: queries, keys, their scores and the decays; forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rla_exp.kernels.decay import Decays, causal_ones, decays_backward, make_decays
from rla_exp.kernels.factors import dot
from rla_exp.kernels.inputs import L2_EPS
from rla_exp.kernels.layout import Layout
from rla_exp.kernels.options import Options


class Shared(NamedTuple):
    """All chunks at once (rows: chunks of all sequences and heads).

    The readers are the keys and then the queries, or the queries alone where nothing is read at the keys.
    """

    raw: Tensor | None
    """[rows, 2 C, K]: k and q before they were normalized; None unless they are."""
    norm: Tensor | None
    """[rows, 2 C, 1]: 1 / sqrt(|x|^2 + eps) of each; None unless they are normalized."""
    k: Tensor
    """[rows, C, K]."""
    readers: Tensor
    """[rows, 2 C or C, K]."""
    decayed_readers: Tensor
    """The same times the decay from the chunk's start: what they read off the state before the chunk."""
    scores: Tensor
    """[rows, 2 C or C, C]: reader t . k_i times the decay between, for i < t; zero elsewhere."""
    self_scores: Tensor
    """[rows, C, 1]: q_t . k_t."""
    decayed_k: Tensor
    """[rows, C, K]: k times the decay to the chunk's end: what arrives there."""
    decay_values: Tensor | None
    """Decays.values; None where nothing decays."""

    @property
    def chunk(self) -> int:
        """C."""
        return self.k.shape[1]

    @property
    def decays(self) -> Decays | None:
        """The decays by name; None where nothing decays."""
        return None if self.decay_values is None else Decays(self.decay_values, self.chunk)

    @property
    def own(self) -> Tensor | None:
        """[rows, C, 1]: a_t; None where nothing decays."""
        return None if self.decays is None else self.decays.own

    @property
    def whole(self) -> Tensor | None:
        """[rows, 1, 1]: the decay over the chunk; None where nothing decays."""
        return None if self.decays is None else self.decays.whole


class SharedGradients(NamedTuple):
    """What both states together say of the shared parts."""

    scores: Tensor
    decayed_readers: Tensor
    decayed_k: Tensor
    self_scores: Tensor
    own: Tensor | None
    """None where nothing decays or a_t is used nowhere by itself."""
    whole: Tensor | None
    """None where nothing decays."""


def make_shared(layout: Layout, q: Tensor, k: Tensor, g: Tensor | None, options: Options) -> Shared:
    """From q, k [B, T, H, K] and g [B, T, H]."""
    C, K = layout.chunk, q.shape[-1]
    kq = q.new_empty(layout.num_rows, 2 * C, K)
    layout.split(k, out=kq[:, :C])
    layout.split(q, out=kq[:, C:])
    raw = norm = None
    if options.normalize_qk:
        raw = kq
        norm = torch.linalg.vector_norm(raw, dim=-1, keepdim=True).square_().add_(L2_EPS).rsqrt_()
        kq = raw * norm
    kq[:, C:] *= options.query_scale(K)
    k = kq[:, :C]
    readers = kq if options.reads_at_k else kq[:, C:]
    scores = torch.bmm(readers, k.mT)
    self_scores = scores[:, -C:].diagonal(dim1=1, dim2=2).unsqueeze(-1).clone()

    if g is None:
        _by_kind(scores, C).mul_(causal_ones(C, k))
        return Shared(raw, norm, k, readers, readers, scores, self_scores, k, None)
    decays = make_decays(layout.split(g))
    _by_kind(scores, C).mul_(decays.between.unsqueeze(1))
    decayed_readers = (_by_kind(readers, C) * decays.from_start.unsqueeze(1)).flatten(1, 2)
    return Shared(raw, norm, k, readers, decayed_readers, scores, self_scores, k * decays.to_end, decays.values)


def shared_backward(shared: Shared, d: SharedGradients, options: Options) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of q, k [rows, C, K] and of g [rows, C]; overwrites d."""
    C, decays = shared.chunk, shared.decays
    d_scores, d_readers, d_k, d_g = d.scores, d.decayed_readers, d.decayed_k, None
    if decays is None:
        _by_kind(d_scores, C).mul_(causal_ones(C, d_k))
    else:
        assert d.whole is not None
        pairs = _by_kind(shared.scores * d_scores, C).sum(1)
        d_from_start = _by_kind(dot(shared.readers, d_readers), C).sum(1)
        d_g = decays_backward(decays, pairs, d.own, d_from_start, dot(shared.k, d_k), d.whole)
        _by_kind(d_scores, C).mul_(decays.between.unsqueeze(1))
        _by_kind(d_readers, C).mul_(decays.from_start.unsqueeze(1))
        d_k.mul_(decays.to_end)
    # the scores' diagonal, which `between` makes zero, is free for q_t . k_t
    d_scores[:, -C:].diagonal(dim1=1, dim2=2).copy_(d.self_scores.squeeze(-1))

    d_readers.baddbmm_(d_scores, shared.k)
    d_k.baddbmm_(d_scores.mT, shared.readers)
    if options.reads_at_k:
        d_k += d_readers[:, :C]
    d_q = d_readers[:, -C:] * options.query_scale(d_k.shape[-1])
    if shared.raw is not None and shared.norm is not None:
        d_k = _normalize_backward(d_k, shared.raw[:, :C], shared.norm[:, :C])
        d_q = _normalize_backward(d_q, shared.raw[:, C:], shared.norm[:, C:])
    return d_q, d_k, d_g


def _by_kind(x: Tensor, chunk: int) -> Tensor:
    """[rows, 2 C or C, D] -> [rows, 2 or 1, C, D]: keys and queries apart."""
    return x.view(x.shape[0], -1, chunk, x.shape[2])


def _normalize_backward(d: Tensor, x: Tensor, norm: Tensor) -> Tensor:
    """Through x norm with norm = (|x|^2 + eps)^(-1/2)."""
    return torch.addcmul(d, x, dot(x, d) * norm.square(), value=-1).mul_(norm)

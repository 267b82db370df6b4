"""Gates, convolution, rotary positions, norm and attention against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rla_exp.kernels.convolution import short_convolution
from rla_exp.models.attention import Attention
from rla_exp.models.gates import A_RANGE, DT_RANGE, LearnedDecay
from rla_exp.models.rms_norm import RMSNorm
from rla_exp.models.rotary import apply_rotary
from rla_exp.models.sequence_layout import SequenceLayout
from rla_exp.models.short_convolution import ShortConvolution


def _randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _tokens() -> torch.Tensor:
    return torch.randint(29, (2, 20), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_learned_gates(make_model):
    """g = -exp(A_log) log(1 + exp(W x + dt_bias)); beta, gamma = 1 / (1 + exp(-W x))."""
    model = make_model("rdn").double()
    mixer = model.blocks[0].mixer
    call = model.operator_calls(_tokens())["blocks.0.mixer"]
    x = model.embedding(_tokens())
    x = x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt()
    z = x @ mixer.decay.proj.weight.T + mixer.decay.dt_bias
    torch.testing.assert_close(call["g"], -mixer.decay.A_log.exp() * torch.log1p(z.exp()))
    torch.testing.assert_close(call["beta"], 1 / (1 + torch.exp(-(x @ mixer.beta.proj.weight.T))))
    torch.testing.assert_close(call["gamma"], 1 / (1 + torch.exp(-(x @ mixer.gamma.proj.weight.T))))


@torch.no_grad()
def test_retnet_decays_by_head(make_model):
    call = make_model("retnet", num_heads=4).operator_calls(_tokens())["blocks.0.mixer"]
    expected = torch.tensor([31 / 32, 63 / 64, 127 / 128, 255 / 256]).expand(2, 20, 4)
    torch.testing.assert_close(call["g"].exp(), expected)
    assert call["beta"] is None


@torch.no_grad()
def test_mamba2_writes_dt_v_and_adds_d_v(make_model):
    model = make_model("mamba2", output_gate=False)
    mixer, layout = model.blocks[0].mixer, SequenceLayout.consecutive(20, start=0, device=torch.device("cpu"))
    x = _randn(2, 20, 64, dtype=torch.float32)
    call = mixer.operator_call(x, layout)
    qkv = F.silu(mixer.conv(mixer.qkv_proj(x), layout))
    v = qkv[..., 128:].unflatten(-1, (2, 32))
    dt = F.softplus(mixer.decay.proj(x) + mixer.decay.dt_bias)
    torch.testing.assert_close(call["v"], dt[..., None] * v)
    assert (call["beta"], call["normalize_qk"], call["scale"]) == (None, False, 1.0)
    # with q = 0 the operator reads nothing: what is left is D v
    mixer.qkv_proj.weight[:64] = 0
    mixer.skip.D.copy_(torch.tensor([2.0, -3.0]))
    expected = mixer.out_proj(mixer.norm(v * torch.tensor([2.0, -3.0])[:, None]).flatten(2))
    torch.testing.assert_close(mixer(x, layout), expected)


def test_decay_starts_as_in_mamba2(make_model):
    decay = make_model("gated_delta_net", num_heads=512, head_dim_k=2, head_dim_v=2).blocks[0].mixer.decay
    A, dt = decay.A_log.exp(), F.softplus(decay.dt_bias)
    low, high = A_RANGE
    assert low <= A.min() < low + 0.5
    assert high - 0.5 < A.max() <= high
    assert A.mean().item() == pytest.approx((low + high) / 2, abs=0.6)
    assert dt.log().mean().item() == pytest.approx(sum(map(math.log, DT_RANGE)) / 2, abs=0.2)
    assert DT_RANGE[0] * 0.999 <= dt.min() < 1.2e-3
    assert 0.08 < dt.max() <= DT_RANGE[1] * 1.001


def test_delta_net_does_not_decay(make_model):
    model = make_model("delta_net")
    assert model.operator_calls(_tokens())["blocks.0.mixer"]["g"] is None
    assert not any(isinstance(module, LearnedDecay) for module in model.modules())


def test_the_convolution_is_its_sum():
    conv = ShortConvolution(5, 4).double()
    torch.nn.init.normal_(conv.weight)
    x = _randn(2, 9, 5)
    whole = SequenceLayout.consecutive(9, start=0, device=x.device)
    y = conv(x, whole)
    for t in range(9):
        expected = sum(conv.weight[:, 3 - j] * x[:, t - j] for j in range(4) if t >= j)
        torch.testing.assert_close(y[:, t], expected)
    # a batch of one row is packed as one document, or as two of 4 and 5
    torch.testing.assert_close(conv(x[:1], SequenceLayout.packed(9, torch.tensor([0, 9]))), y[:1])
    two = conv(x[:1], SequenceLayout.packed(9, torch.tensor([0, 4, 9])))
    torch.testing.assert_close(two[:, :4], y[:1, :4])
    torch.testing.assert_close(two[:, 4:], conv(x[:1, 4:], SequenceLayout.consecutive(5, start=0, device=x.device)))


def test_no_number_passes_between_packed_documents():
    conv = ShortConvolution(5, 4)
    torch.nn.init.normal_(conv.weight)
    x = _randn(1, 9, 5).float()
    x[:, 2] = float("nan")
    y = conv(x, SequenceLayout.packed(9, torch.tensor([0, 4, 9])))
    assert y[:, 2:4].isnan().all()
    assert y[:, 4:].isfinite().all()


@pytest.mark.parametrize(("kernel", "lengths"), [(1, [2, 0, 3]), (4, [0, 0, 0])])
def test_the_convolution_goes_on_without_a_window_or_tokens(kernel, lengths):
    conv = ShortConvolution(5, kernel).double()
    torch.nn.init.normal_(conv.weight)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    x, window = _randn(1, sum(lengths), 5), _randn(3, kernel - 1, 5)
    before = window.clone()
    y = conv(x, SequenceLayout.packed(sum(lengths), offsets), window)
    torch.testing.assert_close(y, x * conv.weight[:, -1])
    torch.testing.assert_close(window, before)


def test_positions_are_those_of_one_row():
    conv = ShortConvolution(5, 4)
    with pytest.raises(ValueError, match=r"one packed row, \[T\]; got \(9,\) for x of \(2, 9, 5\)"):
        short_convolution(torch.zeros(2, 9, 5), conv.weight, positions=torch.arange(9))


def test_the_convolution_starts_as_pytorchs():
    conv = ShortConvolution(1000, 4)
    value = conv.initial_value("weight", torch.Generator().manual_seed(0))
    assert value.abs().max() <= 0.5
    assert value.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)


def test_rotary_turns_pairs_and_keeps_relative_positions():
    q, k = _randn(1, 1, 1, 8, seed=1), _randn(1, 1, 1, 8, seed=2)

    def turned(x, position):
        return apply_rotary(x, torch.tensor([position]), 10000.0)[0, 0, 0]

    torch.testing.assert_close(turned(q, 0), q[0, 0, 0])
    angle = 7 * 10000.0 ** (-2 * 1 / 8)  # of pair 1 at position 7
    expected = q[..., 1] * math.cos(angle) - q[..., 5] * math.sin(angle)
    torch.testing.assert_close(turned(q, 7)[1], expected.squeeze())
    torch.testing.assert_close(turned(q, 7) @ turned(k, 3), turned(q, 104) @ turned(k, 100))
    assert (turned(q, 7) @ turned(k, 3) - turned(q, 8) @ turned(k, 3)).abs() > 1e-2


def test_positions_begin_anew_with_each_document():
    layout = SequenceLayout.packed(6, torch.tensor([0, 2, 2, 5, 6]))
    assert layout.positions.tolist() == [0, 1, 0, 1, 2, 0]
    assert SequenceLayout.consecutive(3, start=4, device=torch.device("cpu")).positions.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("offsets", "window"),
    [
        ([0, 2, 2, 5, 6], 6),  # 2 divides 6, but nothing begins at 4
        ([0, 3, 6], 3),
        ([0, 1, 3, 3, 5, 6], 3),  # documents within windows
        ([0, 6], 6),
        ([0, 1, 2, 3, 4, 5, 6], 1),
    ],
)
def test_packed_windows_are_attended_to_as_rows(offsets, window):
    layout = SequenceLayout.packed(6, torch.tensor(offsets))
    assert layout.window == window
    # the same mask over all tokens at once
    document = torch.searchsorted(torch.tensor(offsets), torch.arange(6), right=True)
    dense = (document == document[:, None]).tril()
    mask = layout.attention_mask
    assert mask.shape == (6 // window, 1, window, window)
    assert torch.equal(torch.block_diag(*mask[:, 0].int()).bool(), dense)
    # one for all layers
    assert layout.attention_mask is mask


def test_rms_norm():
    norm = RMSNorm(6, eps=1e-2)
    torch.nn.init.normal_(norm.weight)
    x = _randn(3, 6)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-2).sqrt() * norm.weight.double()
    torch.testing.assert_close(norm(x), expected)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
def test_grouped_attention_is_softmax_attention(model_config):
    """4 query heads in 2 groups, written out."""
    attention = Attention(model_config("transformer", num_heads=4, num_kv_heads=2, head_dim_k=8, head_dim_v=8)).double()
    for weight in attention.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    x = _randn(1, 6, 64)
    layout = SequenceLayout.consecutive(6, start=0, device=x.device)
    q, k, v = (attention.qkv_proj(x).unflatten(-1, (8, 8)).transpose(1, 2)).split([4, 2, 2], dim=1)
    q, k = apply_rotary(q, layout.positions, 10000.0), apply_rotary(k, layout.positions, 10000.0)
    heads = []
    for head in range(4):
        scores = q[0, head] @ k[0, head // 2].T / math.sqrt(8)
        scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v[0, head // 2])
    torch.testing.assert_close(attention(x, layout), attention.out_proj(torch.cat(heads, dim=-1))[None])

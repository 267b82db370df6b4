"""The kernels that carry both states on Hopper: where they run, that they fit, that they compute the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from rla_exp.kernels.options import Options
from rla_exp.kernels.triton import tiles
from rla_exp.kernels.triton.tiles import Gpu, Tiles, candidates, choose_tiles, may_describe
from rla_exp.kernels.verify.cases import GATED_DELTA_NET, LINEAR_ATTENTION, RDN, RLA
from rla_exp.kernels.verify.problem import describe, dtype_name

if TYPE_CHECKING:
    from conftest import Chip

VALUE = Options(rule="delta", residual="value")
MODELS = (RDN, RLA, GATED_DELTA_NET, LINEAR_ATTENTION, VALUE)
HOPPER = Gpu(132, 227 * 1024, must_pipeline=False, has_descriptors=True, runs_gluon=True)
# bytes of a thread's registers that do not fit; inverses spills most where keys are normalized
MAX_SPILLED_BYTES = {"inverses": 208, "fused_forward": 160, "fused_reverse": 160, "fused_gradients": 640}
VARIANTS = [
    *((options, torch.bfloat16, keep, False) for options, keep in product(MODELS, (False, True))),
    (RDN, torch.float16, True, True),
    (replace(RLA, output="sum", decayed_prediction=True), torch.bfloat16, True, True),
    (replace(RDN, normalize_qk=True), torch.bfloat16, True, True),
    (Options(rule="additive", residual="value"), torch.bfloat16, True, False),
    # between two numbers of the dtype
    (replace(RDN, clip=1.1), torch.bfloat16, True, True),
    (replace(RLA, clip=1.1), torch.bfloat16, True, True),
    (replace(RLA, clip=None), torch.bfloat16, True, True),
]
# for lack of registers; by Triton 3.6 and ptxas 13.5 not what keeps states for gradients and begins with zeros
SERIALIZED = [RDN, replace(RDN, normalize_qk=True), replace(RDN, clip=1.1)]


def name_of(value: object) -> str:
    if isinstance(value, Options):
        return describe(value)
    return dtype_name(value) if isinstance(value, torch.dtype) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "dtype", "keep", "initial_state"), VARIANTS, ids=name_of)
def test_fits(chip: Chip, options: Options, dtype: torch.dtype, keep: bool, initial_state: bool) -> None:
    """Into the shared memory and nearly the registers, whatever is left out of the kernel or comes in."""
    chip.launch_sequence(options, 128, 128, dtype, keep=keep, backward=False, initial_state=initial_state)
    found = chip.usages()
    assert {usage.kernel for usage in found} == {"rows", "fused_forward"} | (
        {"inverses"} if options.is_delta else set()
    )
    chip.assert_fits(found, MAX_SPILLED_BYTES)
    # wgmma: ptxas then ignores which products the kernel leaves running
    assert options in SERIALIZED or not any(usage.is_serialized for usage in found)


@pytest.mark.slow
@pytest.mark.parametrize("options", [replace(RDN, normalize_qk=True), RLA, GATED_DELTA_NET, VALUE], ids=describe)
def test_each_state_of_segments_fits(chip: Chip, options: Options) -> None:
    """Few heads: S, and then R, has the kernel for itself."""
    chip.launch_sequence(options, 128, 128, torch.bfloat16, backward=False, num_sequences=1, num_tokens=8192)
    chip.launches = [x for x in chip.launches if x.kernel.fn.__name__ == "fused_forward_kernel"]
    assert [(x.arguments["FIRST"], x.arguments["SECOND"]) for x in chip.launches] == [(True, False), (False, True)][
        : 1 + options.has_residual
    ]
    found = chip.usages()
    chip.assert_fits(found, {})
    assert not any(usage.is_serialized for usage in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "dtype", "initial_state"),
    [(options, dtype, initial_state) for options, dtype, keep, initial_state in VARIANTS if keep],
    ids=name_of,
)
def test_the_backward_pass_fits(chip: Chip, options: Options, dtype: torch.dtype, initial_state: bool) -> None:
    chip.launch_sequence(options, 128, 128, dtype, initial_state=initial_state)
    kernels = ("fused_reverse_kernel", "fused_gradients_kernel")
    chip.launches = [launch for launch in chip.launches if launch.kernel.fn.__name__ in kernels]
    found = chip.usages()
    # gradients through each state
    assert len(found) == 2 + options.has_residual
    chip.assert_fits(found, MAX_SPILLED_BYTES)
    # of what is normalized the first half of dq and dk waits for the second in 32 bits, which some versions of ptxas
    # have no registers for
    assert options.normalize_qk or not any(usage.is_serialized for usage in found)


def tiles_of(
    num_tokens: int = 2048,
    num_heads: int = 64,
    *,
    dtype: torch.dtype = torch.bfloat16,
    K: int = 128,
    V: int = 128,
    delta: bool = True,
    gpu: Gpu = HOPPER,
) -> Tiles:
    return choose_tiles(
        dtype,
        K,
        V,
        delta=delta,
        predicted=True,
        num_heads=num_heads,
        num_tokens=num_tokens,
        describable=may_describe(dtype, K=K, V=V, num_tokens=num_tokens),
        gpu=gpu,
    )


def test_whole_chunks_go_in_one_kernel() -> None:
    for dtype, V, delta in product((torch.bfloat16, torch.float16), (64, 128, 256), (False, True)):
        # few heads, too
        for num_tokens, num_heads in ((2048, 64), (2048, 1), (64, 6), (131072, 64)):
            usual = tiles_of(num_tokens, num_heads, dtype=dtype, V=V, delta=delta)
            assert usual.forward_on_hopper
            assert usual.reverse_on_hopper
            assert usual.gradients_on_hopper == (V < 256)
            for other in candidates(usual):
                assert other.forward_on_hopper
                assert other.reverse_on_hopper
                assert other.gradients_on_hopper == usual.gradients_on_hopper
                assert (other.forward, other.reverse_S) == (usual.forward, usual.reverse_S)


def test_other_calls_have_a_pass_for_each_state() -> None:
    others = {
        "float32": tiles_of(dtype=torch.float32),
        "packed": tiles_of(num_tokens=0),
        "no whole chunks": tiles_of(num_tokens=2000),
        "less than one": tiles_of(num_tokens=32),
        "K of 64": tiles_of(K=64),
        "K of 256": tiles_of(K=256),
        "V of 32": tiles_of(V=32),
        "V of 512": tiles_of(V=512),
        "segments": tiles_of(num_tokens=8192, num_heads=4),
        "an older assembler": tiles_of(gpu=replace(HOPPER, runs_gluon=False)),
        "no descriptors": tiles_of(gpu=replace(HOPPER, has_descriptors=False)),
    }
    assert others["segments"].segments > 1
    assert others["segments"].reverse_segments > 1
    assert not [name for name, chosen in others.items() if chosen.reverse_on_hopper]
    # forward each segment has what it begins with; the gradients go chunk by chunk, however a sequence is cut
    assert [name for name, chosen in others.items() if chosen.forward_on_hopper] == ["segments"]
    assert [name for name, chosen in others.items() if chosen.gradients_on_hopper] == ["segments"]


@pytest.mark.parametrize(
    ("capability", "assembler", "expected"),
    [
        ((9, 0), (13, 3), True),
        ((9, 0), (13, 10), True),
        ((9, 0), (14, 0), True),
        # Triton 3.6 brings it
        ((9, 0), (12, 8), False),
        ((9, 0), (13, 2), False),
        ((8, 0), (13, 5), False),
        ((10, 0), (13, 5), False),
    ],
)
def test_gpus_that_have_it(
    capability: tuple[int, int], assembler: tuple[int, ...], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton", reason="triton exists for Linux only")
    properties = {"multiprocessor_count": 132, "max_shared_mem": 227 * 1024}
    utils = SimpleNamespace(get_device_properties=lambda _: properties)
    monkeypatch.setattr(tiles, "assembler_version", {10 * capability[0]: assembler}.__getitem__)
    monkeypatch.setattr(triton.runtime, "driver", SimpleNamespace(active=SimpleNamespace(utils=utils)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    gpu = tiles.gpu_of.__wrapped__(torch.device("cuda", 0))
    assert gpu.must_pipeline == (assembler < (13, 3))
    assert gpu.runs_gluon == tiles_of(gpu=gpu).forward_on_hopper == expected


def test_nothing_has_it_where_triton_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="triton exists for Linux only")
    monkeypatch.setattr(tiles, "assembler_version", {90: (13, 5)}.__getitem__)
    for interpret in (False, True):
        monkeypatch.setattr(triton.knobs, "runtime", SimpleNamespace(interpret=interpret))
        assert tiles.gpu_of.__wrapped__(torch.device("cpu")).runs_gluon != interpret


def test_tensors_that_lie_between_addresses() -> None:
    """The copy engine takes multiples of 16 bytes."""
    pytest.importorskip("triton", reason="triton exists for Linux only")
    from rla_exp.kernels.triton.hopper.launch import _tokens

    x = torch.arange(1 + 2 * 64 * 3 * 128, dtype=torch.float16)[1:].view(2, 64, 3, 128)
    described = _tokens(x, 64)
    assert described.base.data_ptr() % 16 == 0
    assert torch.equal(described.base, x)
    assert (described.shape, described.strides, described.block_shape) == ([128, 384], [384, 1], [64, 64])
    assert _tokens(described.base, 64).base is described.base

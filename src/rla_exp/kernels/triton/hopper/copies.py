"""Asking the copy engine, by the names that it has from Triton 3.6 on."""

from typing import Any

from triton._C.libtriton import ir
from triton.experimental.gluon.language._core import builtin
from triton.experimental.gluon.language.nvidia.hopper import tma


@builtin
def _add_async(tensor_desc: Any, coord: Any, src: Any, _semantic: Any = None) -> None:
    """What tma.async_atomic_add is after Triton 3.6, which has the instruction, but no name for it."""
    at = _semantic._convert_to_ir_values(coord, require_i64=False)
    _semantic.builder.create_async_tma_reduce(ir.DESCRIPTOR_REDUCE_KIND.ADD, tensor_desc.handle, at, src.handle)


# renamed after Triton 3.6
load_async = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
store_async = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global
add_async = getattr(tma, "async_atomic_add", None) or _add_async

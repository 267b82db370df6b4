"""Asking the copy engine, by the names that it has from Triton 3.6 on."""

from triton.experimental.gluon.language.nvidia.hopper import tma

# renamed after Triton 3.6
load_async = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
store_async = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global

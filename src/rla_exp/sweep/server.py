"""The fork server: a process that has imported what training needs and done nothing with it.

Importing torch and lightning takes seconds; a fork of a process that has them takes milliseconds. The server starts no
thread and touches no device, so that every worker begins in the state of a fresh interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.forkserver import ensure_running

from rla_exp.sweep.detach import SERVER_VARIABLE

PRELOADED = (
    "rla_exp.sweep.detach",
    "torch",
    "lightning.pytorch",
    "rla_exp.config",
    "rla_exp.lit.fit",
    "rla_exp.lit.train",
    "rla_exp.sweep.sources",
)

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# glibc gives large blocks back to the system at once and asks for them again, a page fault every 4 KiB; a training step
# takes and frees the same tensors over and over, so its process keeps them
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def process_context(threads: int) -> ForkServerContext | SpawnContext:
    """The context to start workers from: forkserver, or spawn where the system has none (Windows).

    Args:
        threads: CPU threads a worker computes with. The libraries read their variables when they are loaded, which for
            a forked worker is in the server; a later sweep in the same process keeps the server's.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    allocator = {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    with _environment({SERVER_VARIABLE: "1", **dict.fromkeys(THREAD_VARIABLES, str(threads)), **allocator}):
        ensure_running()
    return context


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

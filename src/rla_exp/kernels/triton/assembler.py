"""Which ptxas assembles the kernels. Triton 3.6 brings ptxas 12.8 for Hopper, which miscompiles some of them.

Seen on an H200: the forward kernel with blocks of 32 columns, 4 warps and 1 stage reads beyond its buffers or returns
wrong numbers when ptxas 12.8.93 assembles it, and is right from ptxas 13.3.73 (docs/kernels.md, docs/journal.md).
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

VARIABLE = "TRITON_PTXAS_PATH"


@cache
def use_installed_assembler() -> Path | None:
    """Have Triton take the ptxas of the package nvidia-cuda-nvcc, where one is installed and none was chosen.

    Returns:
        The ptxas chosen here; None where the environment names one already or the package is missing.
    """
    if os.environ.get(VARIABLE):
        return None
    found = installed_assembler()
    if found is not None:
        os.environ[VARIABLE] = str(found)
    return found


def installed_assembler() -> Path | None:
    """The ptxas of nvidia-cuda-nvcc, the newest where several are there."""
    spec = importlib.util.find_spec("nvidia")
    folders = () if spec is None else spec.submodule_search_locations or ()
    found = [path for folder in folders for path in Path(folder).glob("cu*/bin/ptxas") if os.access(path, os.X_OK)]
    return max(found, key=lambda path: int(path.parts[-3].removeprefix("cu")), default=None)


def assembler_version(capability: int) -> tuple[int, ...]:
    """Of the ptxas that Triton takes for a compute capability (90 for 9.0), which differs among Triton's versions."""
    from triton.backends.nvidia.compiler import get_ptxas

    return tuple(int(part) for part in str(get_ptxas(capability).version).split("."))

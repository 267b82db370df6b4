"""Starts what interpreted*.py have: Triton decides when it is imported whether it interprets: that takes a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FILES = ("interpreted.py", "interpreted_rounding.py", "interpreted_convolution.py", "interpreted_distributed.py")
MIN_TESTS = 160


@pytest.mark.skipif(find_spec("triton") is None, reason="triton exists for Linux only")
def test_kernels_in_the_interpreter() -> None:
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = re.search(r"^(\d+) passed in", run.stdout, flags=re.MULTILINE)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]
    assert summary is not None
    assert int(summary[1]) >= MIN_TESTS

"""A process for each implementation: none can spoil another's caches, context or times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from rla_exp.bench.cases import Case
from rla_exp.bench.implementations import Implementation

PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class Worker:
    """Measures cases of one implementation, one after the other; after a death it begins anew with the next case.

    A peer compiles into a Triton cache of its own, empty at first: what its autotuner chose for another shape or in
    another session would not be fair to it.
    """

    def __init__(self, implementation: Implementation, device: str, backend: str, max_seconds: float) -> None:
        self.implementation = implementation
        self._arguments = [implementation.name, device, backend]
        self._max_seconds = max_seconds
        self._folder = tempfile.TemporaryDirectory(prefix="rla-bench-")
        self._process: subprocess.Popen[str] | None = None
        self._answers: Queue[str | None] = Queue()

    def warm(self, case: Case) -> dict[str, Any]:
        """Call it once; {} or a failure."""
        return self._ask({"what": "warm", "case": case.to_json()})

    def time(self, case: Case, seconds: float) -> dict[str, Any]:
        """A timing's fields and `note`, or a failure."""
        return self._ask({"what": "time", "case": case.to_json(), "seconds": seconds})

    def limits(self, seconds: float) -> dict[str, Any]:
        """The fields of Limits, or a failure."""
        return self._ask({"what": "limits", "seconds": seconds})

    def close(self) -> None:
        """End the process."""
        self._end()
        self._folder.cleanup()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self._max_seconds)
        except Empty:
            self._end()
            return {"failure": f"no result after {self._max_seconds:g} s", "broken": True}
        except OSError:
            line = None
        if line is None:
            return {"failure": self._obituary(process), "broken": True}
        reply: dict[str, Any] = json.loads(line)
        if reply.get("broken"):
            self._end()
        return reply

    def _start(self) -> subprocess.Popen[str]:
        folder = Path(self._folder.name)
        environment = {**os.environ, **self.implementation.environment}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(PACKAGE_PARENT), *filter(None, [environment.get("PYTHONPATH")])]
        )
        if self.implementation.is_peer:
            environment["TRITON_CACHE_DIR"] = str(folder / "triton")
        with (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "rla_exp.bench.worker", *self._arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        answers: Queue[str | None] = Queue()
        Thread(target=_read, args=(process, answers), daemon=True).start()
        self._process, self._answers = process, answers
        return process

    def _obituary(self, process: subprocess.Popen[str]) -> str:
        self._end()
        lines = (Path(self._folder.name) / "stderr").read_text(errors="replace").strip().splitlines()
        said = f", last words: {lines[-1]}" if lines else ""
        return f"its process ended with exit code {process.returncode}{said}"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        # a dead one refuses what was not flushed
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(process: subprocess.Popen[str], answers: Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            answers.put(line)
    answers.put(None)

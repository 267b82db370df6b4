"""Many cases in processes of their own: kernels compile in parallel, and one that crashes takes no other with it."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing.connection import Connection
from queue import Empty, Queue

import torch

from rla_exp.kernels.verify.backends import load_backend
from rla_exp.kernels.verify.measure import CaseResult, check_case
from rla_exp.kernels.verify.problem import Case

SECONDS_PER_CASE = 300.0
OUT_OF_TIME = "not run: out of time"


def check_all(
    cases: Sequence[Case], backend: str, device: str, *, jobs: int, limit: float | None = None
) -> Iterator[CaseResult]:
    """Results as they come; cases not begun after `limit` seconds fail with that reason.

    Cases of the same options, sizes and dtype share their compiled kernels, and so a process; the longest begin.
    "cuda" is all GPUs there are. What lacked memory beside other processes is checked once more at the end, alone.
    """
    stop_at = None if limit is None else time.monotonic() + limit
    groups = [list(group) for _, group in groupby(cases, key=lambda c: (c.options, c.K, c.V, c.dtype))]
    waiting: Queue[list[Case]] = Queue()
    for group in sorted(groups, key=len, reverse=True):
        waiting.put(group)
    devices = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if device == "cuda" else [device]
    results: Queue[CaseResult | None] = Queue()
    threads = [
        threading.Thread(
            target=_feed_worker, args=(waiting, results, backend, devices[n % len(devices)], stop_at), daemon=True
        )
        for n in range(min(jobs, waiting.qsize()))
    ]
    for thread in threads:
        thread.start()
    running = len(threads)
    lacked_memory: dict[str, CaseResult] = {}
    while running:
        result = results.get()
        if result is None:
            running -= 1
        elif result.lacked_memory and len(threads) > 1:
            lacked_memory[result.name] = result
        else:
            yield result
    again = [case for case in cases if case.name in lacked_memory]
    if again:
        left = None if stop_at is None else stop_at - time.monotonic()
        for result in check_all(again, backend, devices[0], jobs=1, limit=left):
            yield lacked_memory[result.name] if result.failures == [OUT_OF_TIME] else result


def _feed_worker(
    waiting: Queue[list[Case]], results: Queue[CaseResult | None], backend: str, device: str, stop_at: float | None
) -> None:
    worker = None
    try:
        while True:
            for case in waiting.get_nowait():
                if stop_at is not None and time.monotonic() > stop_at:
                    results.put(CaseResult(case.name, failures=[OUT_OF_TIME]))
                    continue
                worker = worker or _Worker(backend, device)
                result = worker.check(case)
                results.put(result)
                if result.context_is_broken:
                    worker.end()
                    worker = None
    except Empty:
        pass
    finally:
        if worker is not None:
            worker.end()
        results.put(None)


class _Worker:
    """A process that checks one case after the other."""

    def __init__(self, backend: str, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, backend, device), daemon=True)
        self._process.start()
        theirs.close()

    def check(self, case: Case) -> CaseResult:
        try:
            self._connection.send(case)
            if self._connection.poll(SECONDS_PER_CASE):
                result: CaseResult = self._connection.recv()
                return result
            reason = f"no result after {SECONDS_PER_CASE:.0f} s"
        except (EOFError, OSError):
            self._process.join(10)
            reason = f"the process died with exit code {self._process.exitcode}"
        return CaseResult(case.name, failures=[reason], context_is_broken=True)

    def end(self) -> None:
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(connection: Connection, backend: str, device: str) -> None:
    torch.set_num_threads(1)
    loaded = load_backend(backend)
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        connection.send(check_case(case, loaded, torch.device(device)))

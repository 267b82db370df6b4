"""The evaluations that a table shows: suites on its finished runs, several runs at a time, each stored in its run."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rla_exp.errors import UserError
from rla_exp.sweep.devices import available_cores


@dataclass(frozen=True)
class Wanted:
    """A suite on a run."""

    run: Path
    suite: str
    limit: int | None
    """Documents of each task; None: all."""
    data_dir: Path | None


def evaluate_runs(wanted: Sequence[Wanted], *, num_workers: int | None, on_gpu: bool) -> list[str]:
    """Run suites whose scores are not there yet, and say what could not be evaluated, a line each.

    Tasks that a run has stored are not run again, so that the same call goes on after an interruption. On a GPU one run
    at a time is evaluated, for batches fill it; on a CPU as many as there are cores, with one thread each.
    """
    # imported here, for it needs torch, which takes seconds
    from rla_exp.eval.suite import load_suite

    for suite in dict.fromkeys(item.suite for item in wanted):
        load_suite(suite)
    if not wanted:
        return []
    print(f"evaluating: {len(wanted)} suites of runs", flush=True)
    problems = []
    workers = 1 if on_gpu else min(num_workers or available_cores(), len(wanted))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(_evaluate, item, on_gpu=on_gpu): item for item in wanted}
        for number, future in enumerate(as_completed(futures), start=1):
            item = futures[future]
            name = f"{item.run.parent.name}/{item.run.name} {item.suite}"
            problem = future.result()
            print(f"[{number}/{len(wanted)}] {'failed' if problem else 'done'} {name}", flush=True)
            if problem:
                problems.append(f"{name}: {problem}")
    return problems


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _evaluate(item: Wanted, *, on_gpu: bool) -> str | None:
    """What went wrong, in words; None where the scores are stored."""
    import torch

    from rla_exp.eval.evaluate import EvaluationSettings, evaluate_run
    from rla_exp.eval.restore import load_run
    from rla_exp.eval.suite import load_suite

    if not on_gpu:
        torch.set_num_threads(1)
    try:
        run = load_run(item.run, device="cuda" if on_gpu else "cpu")
        settings = EvaluationSettings(limit=item.limit, data_dir=item.data_dir)
        evaluate_run(run, item.suite, load_suite(item.suite), settings)
    except UserError as error:
        return str(error)
    except Exception as error:
        # one run that cannot be evaluated does not stop the others
        return f"{type(error).__name__}: {error}"
    return None

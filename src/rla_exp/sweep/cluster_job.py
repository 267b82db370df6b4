"""A job on a cluster: what its process does from the first instruction to the last, requeueing included.

The signals, as SLURM sends them:

- SIGUSR2, before the time limit or a preemption: the run writes its checkpoint, then the job is requeued.
- SIGTERM, by `scancel` or a preemption without warning: the run writes its checkpoint, and the job waits to be killed.
  A job that ended by itself would not be requeued by SLURM, and one that requeued itself would undo a user's `scancel`.
- SIGINT, from the sweep that was interrupted: the run writes its checkpoint and the job ends.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rla_exp.sweep.ending import Ending, ending_of
from rla_exp.sweep.server import THREAD_VARIABLES
from rla_exp.sweep.worker import redirect_output

REQUEUE_SIGNAL = signal.SIGUSR2
# the longest that a cluster leaves between SIGTERM and SIGKILL, and then some
KILL_WAIT_SECONDS = 600.0


@dataclass
class ClusterJob:
    """What submitit pickles into its folder and calls on the node."""

    work: Callable[[], None]
    folder: Path
    threads: int
    kill_wait: float = KILL_WAIT_SECONDS

    def __call__(self) -> Ending:
        """Do the job's work; the ending goes to submitit's result file, which the sweep reads."""
        # before torch is imported, which reads them
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(self.threads)))
        requeue = signal.getsignal(REQUEUE_SIGNAL)
        received: list[signal.Signals] = []

        def stop(number: int, _frame: FrameType | None) -> None:
            received.append(signal.Signals(number))
            # the run listens to SIGTERM: it writes its checkpoint at the end of the step
            signal.raise_signal(signal.SIGTERM)

        def interrupt(number: int, _frame: FrameType | None) -> None:
            received.append(signal.Signals(number))
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, interrupt)
        signal.signal(REQUEUE_SIGNAL, stop)
        ending = ending_of(self._work, self.folder, tell=traceback.print_exc)
        if ending.state != "interrupted":
            return ending
        if REQUEUE_SIGNAL in received:
            assert callable(requeue)
            requeue(REQUEUE_SIGNAL, None)
        elif "SIGTERM" in (ending.cause or "") or signal.SIGTERM in received:
            time.sleep(self.kill_wait)
        return ending

    def checkpoint(self) -> Any:
        """What submitit runs after requeueing: the same job, which goes on from the run's checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _work(self) -> None:
        redirect_output(self.folder)
        self.work()

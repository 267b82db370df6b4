"""Workers on a SLURM cluster, through submitit: one job a run, each with one GPU at most.

The sweep only submits and watches. Its jobs outlive it: the same command finds them again by the ids that it left in
the runs' folders. Everything that counts (status, checkpoints, results) is in those folders, which all nodes must see.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rla_exp.errors import ConfigError, RunError
from rla_exp.runs.files import read_json, write_json
from rla_exp.runs.folder import CLUSTER_JOB_FILE
from rla_exp.sweep.cluster_job import ClusterJob
from rla_exp.sweep.ending import Ending
from rla_exp.sweep.job import Job
from rla_exp.sweep.recorded import is_finished, read_status
from rla_exp.sweep.workers import Ended


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How jobs are submitted; the settings of `launcher=slurm`."""

    cluster: Literal["slurm", "local"] = "slurm"
    folder: Path = Path("runs/.submitit")
    timeout_min: int = 240
    max_requeues: int = 20
    signal_delay_s: int = 120
    mem_gb: float | None = 16.0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    sbatch: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Submitted:
    """A job of the cluster."""

    job: Job
    handle: Any
    since: float


class ClusterWorkers:
    """At most `num_workers` jobs submitted at a time."""

    def __init__(self, jobs: Sequence[Job], num_workers: int, *, settings: ClusterSettings) -> None:  # noqa: ARG002
        try:
            import submitit
        except ImportError:
            raise ConfigError(["launcher=slurm: needs submitit; install it by pip install 'rla_exp[slurm]'"]) from None
        self.settings, self.num_workers, self.submitit = settings, num_workers, submitit
        self.submitted: dict[Path, _Submitted] = {}

    @property
    def running(self) -> tuple[Job, ...]:
        """The jobs that run or wait on the cluster."""
        return tuple(entry.job for entry in self.submitted.values())

    def has_room(self) -> bool:
        """Whether one more job may be submitted now."""
        return len(self.submitted) < self.num_workers

    def adopt(self, job: Job) -> bool:
        """Watch the job that an earlier sweep submitted, if it runs or waits."""
        if self.settings.cluster != "slurm":
            # submitit's local jobs are known to their parent only
            return False
        with suppress(RunError):
            found = read_json(job.folder / CLUSTER_JOB_FILE)
            if found is not None and str(found.get("id", "")).isdigit():
                handle: Any = self.submitit.SlurmJob(folder=self.settings.folder.resolve(), job_id=str(found["id"]))
                if not handle.done(force_check=True) and handle.state != "UNKNOWN":
                    self.submitted[job.folder] = _Submitted(job, handle, time.monotonic())
                    return True
        return False

    def start(self, job: Job) -> None:
        """Submit the job; RunError where the cluster refuses it."""
        try:
            executor = make_executor(job, self.settings)
            handle = executor.submit(ClusterJob(job.work, job.folder, job.threads))
            write_json(job.folder / CLUSTER_JOB_FILE, {"cluster": self.settings.cluster, "id": handle.job_id})
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise RunError(f"the cluster did not take it: {error}") from error
        self.submitted[job.folder] = _Submitted(job, handle, time.monotonic())

    def ended(self, timeout: float) -> list[Ended]:
        """The jobs that the cluster has done with."""
        ended = []
        for folder, entry in list(self.submitted.items()):
            if entry.handle.done():
                del self.submitted[folder]
                ended.append(Ended(entry.job, _ending(entry), time.monotonic() - entry.since))
        if not ended:
            time.sleep(timeout)
        return ended

    def stop(self, number: signal.Signals) -> None:
        """Running jobs write their checkpoints and end (killed: at once); waiting ones leave the queue."""
        for entry in self.submitted.values():
            # read once: a file that is gone a moment later must not take the process id with it
            status = read_status(entry.job.folder)
            if number == signal.SIGKILL or status is None or status.state != "running":
                entry.handle.cancel(check=False)
            elif self.settings.cluster == "slurm":
                # to the process itself, not to the batch script around it
                subprocess.run(["scancel", "--signal=INT", entry.handle.job_id], check=False, timeout=60)
            else:
                with suppress(ProcessLookupError):
                    os.kill(status.pid, signal.SIGINT)


def make_executor(job: Job, settings: ClusterSettings) -> Any:
    """submitit's executor with the resources of one job: its threads, and one GPU where it uses one."""
    import submitit

    settings.folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(
        folder=settings.folder.resolve(),
        cluster=settings.cluster,
        # by name, as submitit has it
        **{f"{settings.cluster}_max_num_timeout": settings.max_requeues},
    )
    executor.update_parameters(
        name=f"rla_{job.folder.parent.name}-{job.folder.name}",
        timeout_min=settings.timeout_min,
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=job.threads,
        gpus_per_node=1 if job.device_type == "cuda" else 0,
        **({} if settings.mem_gb is None else {"mem_gb": settings.mem_gb}),
        **({f"{settings.cluster}_setup": list(settings.setup)} if settings.setup else {}),
    )
    if settings.cluster == "slurm":
        named = {key: getattr(settings, key) for key in ("partition", "account", "qos", "constraint")}
        executor.update_parameters(
            slurm_signal_delay_s=settings.signal_delay_s,
            slurm_additional_parameters={"requeue": True, **settings.sbatch},
            **{f"slurm_{key}": value for key, value in named.items() if value is not None},
        )
    return executor


def _ending(entry: _Submitted) -> Ending:
    """What the job said last; one that was killed said nothing."""
    if not entry.handle.paths.result_pickle.exists():
        if is_finished(entry.job.folder):
            return Ending("done")
        return Ending(
            "failed", f"its job {entry.handle.job_id} ended as {entry.handle.state} without a word", spoken=False
        )
    try:
        result = entry.handle.result()
    except Exception as error:  # submitit raises what it likes for what it cannot read
        return Ending("failed", f"its job {entry.handle.job_id} failed: {str(error).strip()[-400:]}", spoken=False)
    assert isinstance(result, Ending)
    return result

"""The runs that wait for their turn: their status.json says `queued`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from rla_exp.errors import RunError
from rla_exp.runs import RunFolder, Status
from rla_exp.sweep.job import Job
from rla_exp.sweep.recorded import read_status


def enqueue(jobs: Iterable[Job]) -> None:
    """Make the jobs' folders and write that they wait.

    A recorded failure stays recorded, and a run that another process trains is left alone.

    Raises:
        RunError: not one of the folders can be used.
    """
    errors: list[RunError] = []
    written = 0
    for job in jobs:
        folder = RunFolder(job.folder)
        try:
            folder.create()
            _enqueue(folder)
        except RunError as error:
            # one folder of many is told by its own run
            errors.append(error)
        else:
            written += 1
    if errors and not written:
        raise errors[0]


def _enqueue(folder: RunFolder) -> None:
    before = folder.read_status()
    if before is None:
        folder.write_status(Status(state="queued"))
    elif before.state != "failed" and not folder.is_locked():
        # what it reached, and why it stopped, is true until it goes on
        now = Status(state="queued")
        folder.write_status(replace(before, state="queued", pid=now.pid, host=now.host, updated=now.updated))


def dequeue(jobs: Iterable[Job]) -> None:
    """Write that these jobs wait no more: the sweep is over before their turn."""
    for job in jobs:
        status = read_status(job.folder)
        # another sweep may wait with the same run
        if status is None or (status.state, status.pid, status.host) != ("queued", os.getpid(), socket.gethostname()):
            continue
        with suppress(RunError):
            RunFolder(job.folder).write_status(
                replace(status, state="interrupted", error=status.error or "not started when the sweep ended")
            )

"""The life of a run: found, locked, skipped or trained, and told how it ended."""

from __future__ import annotations

import logging

from rla_exp.config import Composed
from rla_exp.errors import InterruptedRun, NonFiniteError, RunError, UserError
from rla_exp.lit.live_status import LiveStatus
from rla_exp.lit.place import find_place
from rla_exp.lit.stopping import StopRequest
from rla_exp.runs import Result, RunFolder, check_same_config

logger = logging.getLogger(__name__)


def train_run(composed: Composed) -> Result:
    """Train one run, or go on with it, or return its result where it is finished.

    Raises:
        ConfigError: the settings cannot be on this machine.
        DataError: the data cannot be used.
        RunError: the folder cannot be written, is another run's or is being trained, or the run failed before.
        NonFiniteError: training met a number that is not finite; the run has failed.
        InterruptedRun: SIGINT or SIGTERM came; the same call goes on from the checkpoint.
    """
    config = composed.config
    stop = StopRequest()
    with stop.listening():
        place = find_place(composed)
        folder = place.folder
        finished = _finished(folder, composed)
        if finished is not None:
            return finished
        folder.create()
        with folder.lock(), folder.log():
            # another process may have trained it until now
            finished = _finished(folder, composed)
            if finished is not None:
                return finished
            _refuse_failed(folder, retry=config.retry_failed)
            folder.write_config(composed.resolved)
            status = LiveStatus(folder, config.trainer.max_steps)
            status.write("running")
            # imported here: a run that is finished needs no Lightning, which takes seconds
            from rla_exp.lit.fit import fit

            try:
                result = fit(composed, folder, status, stop, device=place.device, identity=place.identity)
                folder.write_result(result)
            except BaseException as error:
                _tell_end(status, error)
                raise
            status.step = config.trainer.max_steps
            status.write("done")
            logger.info("done: %s", ", ".join(f"{key} {value:.6g}" for key, value in result.metrics.items()))
            return result


def _finished(folder: RunFolder, composed: Composed) -> Result | None:
    check_same_config(folder, composed.resolved)
    return folder.read_result()


def _refuse_failed(folder: RunFolder, *, retry: bool) -> None:
    status = folder.read_status()
    if status is None or status.state != "failed" or retry:
        return
    raise RunError(
        f"{folder.path} failed before ({status.error}); see log.txt there. retry_failed=true goes on from its last "
        "checkpoint, if it has one; delete the folder to start over"
    )


def _tell_end(status: LiveStatus, error: BaseException) -> None:
    """Write how a run ended that did not finish, to its log and its status."""
    # what the user can mend (a disk, a file, a signal) is no failure of the run: it goes on when that is mended
    failed = not isinstance(error, UserError | KeyboardInterrupt) or isinstance(error, NonFiniteError)
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, InterruptedRun):
        logger.info("%s", error)
    else:
        logger.error("%s", message, exc_info=error)
    try:
        status.write("failed" if failed else "interrupted", message)
    except RunError as second:
        # a full disk: the free lock tells that nobody trains the run
        logger.error("%s", second)

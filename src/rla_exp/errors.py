"""Errors that a user can mend: the command line prints their message and exits with code 1, without a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A setting, a file or a device is not as it must be; the message says what is wrong and how to mend it."""


class ConfigError(UserError):
    """One or more settings are wrong. Carries every problem found, so that nobody mends them one run at a time."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 problem with the configuration:" if count == 1 else f"{count} problems with the configuration:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class DataError(UserError):
    """A corpus, file or tokenizer cannot be used as it is."""


class RunError(UserError):
    """A run's folder, file or checkpoint cannot be used as it is."""


class RunHeldError(RunError):
    """Another process trains the run at this moment."""


class NonFiniteError(UserError):
    """Training met a loss or gradient that is not finite; says at which step and in which layer it began."""

    def __init__(self, step: int, layer: str, what: str) -> None:
        self.step, self.layer, self.what = step, layer, what
        super().__init__(f"{what} is not finite at step {step}, beginning in {layer}")


class InterruptedRun(UserError):  # noqa: N818 - named after what happened, it is no fault
    """The run was asked to stop (SIGINT, SIGTERM); its last checkpoint is written and the same command goes on."""

"""log.txt: what a run said, with tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rla_exp.errors import RunError

LOG_FILE = "log.txt"
LOGGER = "rla_exp"


class _QuietFileHandler(logging.FileHandler):
    """Drops what the disk does not take: the first file that matters tells of it, in words that a user can act on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing."""


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what the package's loggers say (level INFO and above) to log.txt in the run folder `path`."""
    file = path / LOG_FILE
    try:
        handler = _QuietFileHandler(file, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {file}: {error.strerror or error}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        # what a full disk did not take is tried once more here
        with suppress(OSError):
            handler.close()

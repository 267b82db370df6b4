"""How a run is doing: what status.json holds, for live views and for the next start."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

RunState = Literal["queued", "running", "done", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """One moment of a run. `running` without the run's lock held means that its process died."""

    state: RunState
    step: int = 0
    """Optimizer steps taken."""
    max_steps: int = 0
    """Optimizer steps planned."""
    first_step: int | None = None
    """The step that this start went on from; None before its checkpoint is read."""
    loss: float | None = None
    """Last training loss, nats a scored token."""
    tokens_per_s: float | None = None
    """Training throughput of the last steps."""
    error: str | None = None
    """Why the run failed or stopped."""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    updated: float = field(default_factory=time.time)
    """Seconds since the epoch (time.time) when this was written."""

    def is_writer_gone(self) -> bool:
        """Whether the process that wrote this is known to be gone: one of this host whose id nobody has now.

        An id that another process has by now counts as alive.
        """
        # on Windows signal 0 is no question, it is Ctrl-C
        if self.host != socket.gethostname() or os.name == "nt":
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            # there, and another user's
            return False
        return False

    def to_json(self) -> dict[str, Any]:
        """As status.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Status:
        """The inverse of `to_json`; keys that a later version added are left aside.

        Raises:
            ValueError: there is no state, an unknown one, or a value of another type.
        """
        if content.get("state") not in get_args(RunState):
            raise ValueError(f"state is {content.get('state')!r}, allowed are {', '.join(get_args(RunState))}")
        known = {item.name for item in fields(cls)}
        try:
            return _reader().validate_python({key: value for key, value in content.items() if key in known})
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}") from None


@cache
def _reader() -> TypeAdapter[Status]:
    return TypeAdapter(Status)

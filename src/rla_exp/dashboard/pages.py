"""HTML from templates: every value is escaped, and links are relative, so that the site can be moved or sent."""

from __future__ import annotations

import time
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

NOTHING = "\N{EN DASH}"
WORDS = {
    "queued": "waiting for its turn",
    "running": "training now",
    "died": "its process ended without a word; the same command goes on from its checkpoint",
    "interrupted": "stopped; the same command goes on from its checkpoint",
    "failed": "ended by an error; trained again only with retry_failed=true",
    "done": "finished",
    "unknown": "no status can be read",
}
"""What a state means."""


def make_environment() -> Environment:
    """Templates of this package; an unknown name in one is an error."""
    environment = Environment(
        loader=PackageLoader("rla_exp.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, clock=clock, moment=moment, percent=percent, bytes=as_bytes, href=quote)
    environment.globals["words"] = WORDS
    return environment


def number(value: float | None) -> str:
    """Four significant digits, thousands grouped; a dash for nothing."""
    if value is None:
        return NOTHING
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(part: float, whole: float) -> float:
    """0 to 100; 0 of nothing."""
    return 0.0 if not whole else min(100.0, 100.0 * part / whole)


def clock(seconds: float | None) -> str:
    """3725 as 1:02:05, 65 as 1:05; a dash for nothing."""
    if seconds is None:
        return NOTHING
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def moment(epoch: float | None) -> str:
    """Seconds since the epoch as date and time (UTC); a dash for nothing."""
    return NOTHING if epoch is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(epoch))


def as_bytes(count: float) -> str:
    """2048 as 2.0 KiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"

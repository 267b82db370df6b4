"""How numbers are written in tables: Python's format specifications, and the two that those lack."""

from __future__ import annotations

UNITS: dict[str, tuple[int, tuple[str, ...]]] = {
    "si": (1000, ("", "k", "M", "B", "T")),
    "bytes": (1024, (" B", " KiB", " MiB", " GiB", " TiB")),
}


def check_format(specification: str) -> str:
    """The specification itself. Raises ValueError where it cannot format a number."""
    try:
        format_number(1234.5, specification)
    except ValueError:
        raise ValueError(
            "a format is 'si' (12.3k), 'bytes' (1.5 KiB) or one of Python's for floats, like .3f"
        ) from None
    return specification


def format_number(value: float, specification: str) -> str:
    """si: 12.3k, 1.55B. bytes: 512 B, 1.5 KiB. Otherwise Python's format specification (like .3f)."""
    return _scaled(value, value, *UNITS[specification]) if specification in UNITS else format(value, specification)


def format_spread(mean: float, sd: float, specification: str) -> str:
    """mean ± sd, both in the mean's unit: 21.3k ± 0.3k."""
    if specification in UNITS:
        base, units = UNITS[specification]
        return f"{_scaled(mean, mean, base, units)} ± {_scaled(sd, mean, base, units)}"
    return f"{format(mean, specification)} ± {format(sd, specification)}"


def _scaled(value: float, like: float, base: int, units: tuple[str, ...]) -> str:
    """The value in the unit and with the digits that suit `like`: three significant ones, fewer where exact."""
    power = 0
    # what would round up to the next unit is written in it
    while power + 1 < len(units) and abs(like) >= (base - 0.5) * base**power:
        power += 1
    scale = base**power
    digits = 0 if like % scale == 0 else 2 if abs(like) < 9.995 * scale else 1 if abs(like) < 99.95 * scale else 0
    return f"{value / scale:.{digits}f}{units[power]}"

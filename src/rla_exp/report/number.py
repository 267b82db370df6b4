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
    """si: 12.3k, 1.55B. bytes: 512 B, 1.50 KiB. Otherwise Python's format specification (like .3f)."""
    if specification not in UNITS:
        return format(value, specification)
    scale, unit, digits = _unit(value, *UNITS[specification])
    return f"{value / scale:.{0 if value % scale == 0 else digits}f}{unit}"


def format_spread(mean: float, sd: float, specification: str) -> str:
    """mean ± sd, both in the mean's unit: 21.3k ± 0.3k."""
    if specification not in UNITS:
        return f"{format(mean, specification)} ± {format(sd, specification)}"
    scale, unit, digits = _unit(mean, *UNITS[specification])
    return f"{mean / scale:.{digits}f}{unit} ± {sd / scale:.{digits}f}{unit}"


def _unit(value: float, base: int, units: tuple[str, ...]) -> tuple[int, str, int]:
    """What to divide by, the unit's name, and the decimals that make three significant digits."""
    power = 0
    # what would round up to the next unit is written in it
    while power + 1 < len(units) and abs(value) >= (base - 0.5) * base**power:
        power += 1
    scaled = abs(value) / base**power
    return base**power, units[power], 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0

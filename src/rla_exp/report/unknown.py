"""How a name that is not there is answered."""

from __future__ import annotations

from collections.abc import Iterable

from rla_exp.config.wording import closest, did_you_mean


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """'row value_stat is unknown; known: ...; did you mean value_state?'"""
    known = list(known)
    guess = did_you_mean(closest(str(name), known))
    return f"{what} {name} is unknown; known: {', '.join(known) or 'none'}{guess}"

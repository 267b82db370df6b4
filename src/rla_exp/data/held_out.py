"""The parts of a held-out split that are scored apart: its domains, and the whole of it once more at other lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A stretch of a split's stream, cut into windows of one length; the last one is filled up."""

    domain: str | None
    """None: the split has no domains."""
    seq_len: int
    is_longer: bool
    """It holds what another part holds too, at a length beyond that of training."""
    start: int
    """Position of its first token."""
    num_scored: int
    """Its positions that have a next token."""
    batch_size: int
    """Windows a batch."""

    @property
    def num_windows(self) -> int:
        """Windows that cover it once."""
        return -(-self.num_scored // self.seq_len)

    @property
    def num_batches(self) -> int:
        """Batches of its windows; none holds windows of another part."""
        return -(-self.num_windows // self.batch_size)


def cut_into_parts(
    num_tokens: int,
    domains: Mapping[str, tuple[int, int]],
    *,
    seq_len: int,
    longer: Sequence[int],
    batch_size: int,
    cap: int | None,
) -> tuple[Part, ...]:
    """The parts of a split: each of its domains at the length of training, then all of them at each longer one.

    Args:
        num_tokens: of the stream.
        domains: where they begin and end in it; empty: it is one.
        longer: further lengths; their batches hold about as many tokens.
        cap: scored positions of each domain at most; None: all.
    """
    stretches: list[tuple[str | None, int, int]] = [(domain, *bounds) for domain, bounds in domains.items()]
    if not domains:
        stretches.append((None, 0, num_tokens))
    parts = []
    for length in (seq_len, *longer):
        for domain, start, stop in stretches:
            num_scored = stop - start - 1 if cap is None else min(stop - start - 1, cap)
            size = max(1, batch_size * seq_len // length)
            parts.append(Part(domain, length, length != seq_len, start, num_scored, size))
    return tuple(parts)

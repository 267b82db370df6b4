"""The generated parts of docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rla_exp.bench.cases import Op
from rla_exp.bench.costs import IN_ONE, Cost, kernel_costs, stored
from rla_exp.bench.limits import Limits
from rla_exp.bench.markdown import LABELS, NONE

SHOWN: tuple[Op, ...] = ("linear_attention", "gated_delta_net", "rla", "rdn")
TOKENS, HEADS = 32768, 16


def replace_part(text: str, name: str, content: str) -> str:
    """Text with what stands between `<!-- name -->` and `<!-- end of name -->` replaced.

    Raises:
        ValueError: the marks are not there.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"there is no {begin.strip()} with its end")
    return f"{before}{begin}{content}\n{end}{after}"


def costs_table() -> str:
    """Bytes, operations and operations a byte of each kernel, a token and head."""
    return _table(lambda cost: f"{cost.bytes:,.0f} / {cost.flops / 1000:,.0f}k / {cost.flops / cost.bytes:.0f}", _sum)


def floors_table(limits: Limits) -> str:
    """The least time of each kernel in microseconds, and what sets it."""

    def text(cost: Cost) -> str:
        by_memory = cost.bytes / limits.copy_gb_per_s / 1e9
        bound = "memory" if cost.seconds(limits) <= by_memory else "products"
        return f"{1e6 * TOKENS * HEADS * cost.seconds(limits):,.0f} ({bound})"

    return _table(text, lambda costs: f"{1e6 * TOKENS * HEADS * sum(cost.seconds(limits) for cost in costs):,.0f}")


def floors(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """A table for each benchmark of the fused kernels."""
    parts = []
    for content in benchmarks:
        if content["backend"] == "triton" and content["limits"] is not None:
            limits = Limits(**content["limits"])
            parts += [
                f"{content['gpu']}, {limits.copy_gb_per_s:,.0f} GB/s and {limits.matmul_tflop_per_s:,.0f} TFLOP/s as "
                f"measured {content['date']}, {TOKENS:,} tokens of {HEADS} heads, in microseconds:",
                floors_table(limits),
            ]
    return "\n\n".join(parts) or "No benchmark of the fused kernels is in benchmarks/ yet."


def storage_table() -> str:
    """What is saved and what is scratch, in bytes a token and head."""
    parts = {op: {part.what: part for part in stored(op)} for op in SHOWN}
    whats = list(dict.fromkeys(what for op in reversed(SHOWN) for what in parts[op]))
    lines = _head(["", "", *(LABELS[op] for op in SHOWN)])
    for what in whats:
        where = next(parts[op][what].where for op in SHOWN if what in parts[op])
        cells = [f"{parts[op][what].bytes:,.0f}" if what in parts[op] else NONE for op in SHOWN]
        lines.append(_row([what, where, *cells]))
    for where in ("saved", "made again", "scratch"):
        sums = [sum(part.bytes for part in parts[op].values() if part.where == where) for op in SHOWN]
        lines.append(_row(["**together**", where, *(f"**{total:,.0f}**" for total in sums)]))
    return "\n".join(lines)


def _sum(costs: Sequence[Cost]) -> str:
    moved, flops = sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs)
    return f"{moved:,.0f} / {flops / 1000:,.0f}k / {flops / moved:.0f}"


def _table(text: Callable[[Cost], str], total: Callable[[Sequence[Cost]], str]) -> str:
    ways: tuple[tuple[str, tuple[str, ...]], ...] = (("", ()), (", on Hopper", IN_ONE))
    forward = {(op, way): kernel_costs(op, gradients=False, in_one=way) for op in SHOWN for _, way in ways}
    both = {(op, way): kernel_costs(op, gradients=True, in_one=way) for op in SHOWN for _, way in ways}
    order = (forward["rdn", ()], forward["rdn", IN_ONE], both["rdn", ()], both["rdn", IN_ONE])
    kernels = [cost.kernel for costs in order for cost in costs]
    lines = _head(["", *(LABELS[op] for op in SHOWN)])
    for kernel in dict.fromkeys(kernels):
        # what runs either way costs the same
        own = [[cost for _, way in ways for cost in both[op, way] if cost.kernel == kernel] for op in SHOWN]
        lines.append(_row([kernel, *(text(found[0]) if found else NONE for found in own)]))
    for name, costs in (("forward without gradients", forward), ("forward + backward", both)):
        lines += [_row([f"**{name}{where}**", *(total(costs[op, way]) for op in SHOWN)]) for where, way in ways]
    return "\n".join(lines)


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|:--|" + "--:|" * (len(cells) - 1)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"

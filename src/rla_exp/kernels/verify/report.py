"""The report of a check: JSON for programs, Markdown for readers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rla_exp.kernels.verify.bounds import bound
from rla_exp.kernels.verify.measure import CaseResult
from rla_exp.kernels.verify.problem import Case, dtype_name


def write_report(path: Path, about: dict[str, Any], cases: Sequence[Case], results: Sequence[CaseResult]) -> None:
    """Write path.json and path.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {**about, "cases": len(cases), "failed": sum(bool(result.failures) for result in results)}
    rows = ",\n".join(f"    {json.dumps(result.to_json(), allow_nan=False)}" for result in results)
    text = json.dumps(head, indent=2).removesuffix("\n}") + f',\n  "rows": [\n{rows}\n  ]\n}}\n'
    path.with_name(path.name + ".json").write_text(text, encoding="utf-8")
    path.with_name(path.name + ".md").write_text(to_markdown(head, cases, results), encoding="utf-8")


def read_passed(path: Path, about: dict[str, Any], cases: Sequence[Case]) -> tuple[dict[str, CaseResult], float]:
    """By name what passed in path.json, and the seconds it took; nothing where that is of other cases, sources or
    versions, or of another GPU."""
    try:
        report = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, 0.0
    same = all(report.get(name) == about[name] for name in ("gpu", "backend", "versions", "sources"))
    if not same or {row["name"] for row in report["rows"]} != {case.name for case in cases}:
        return {}, 0.0
    passed = {row["name"]: CaseResult(**row) for row in report["rows"] if "failures" not in row}
    return passed, report["seconds"]


def to_markdown(head: dict[str, Any], cases: Sequence[Case], results: Sequence[CaseResult]) -> str:
    """The worst error of each tensor by dtype and scenario, as a share of its bound, and every failure."""
    by_name = {case.name: case for case in cases}
    lines = [f"# Correctness of the {head['backend']} backend on {head['gpu']}", ""]
    lines += [f"- {name}: {value}" for name, value in head.items() if name not in ("backend", "gpu")]
    lines += [
        "",
        "Each number is the largest RMS(x - ref) / RMS(ref) over the cases of its row, against float64 on the same",
        "rounded inputs. Gradients with a clip: under the backend's own clip mask; the last columns compare with the",
        "reference's mask. *Of bound* is the largest error divided by its bound.",
        "",
    ]
    groups: dict[tuple[str, str], list[CaseResult]] = defaultdict(list)
    for result in results:
        case = by_name[result.name]
        groups[dtype_name(case.dtype), case.scenario.name].append(result)
    order = list(dict.fromkeys((dtype_name(case.dtype), case.scenario.name) for case in cases))
    order.sort(key=lambda key: key[0])
    tensors = ["o", "S", "R", "dq", "dk", "dv", "dg", "dbeta", "dgamma", "dS0", "dR0"]
    columns = ["dtype", "scenario", "cases", "failed", *tensors, "of bound", "d (true mask)", "mask distance"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for key in order:
        group = groups[key]
        cells = [*key, str(len(group)), str(sum(bool(result.failures) for result in group))]
        cells += [_largest(result.errors.get(tensor) for result in group) for tensor in tensors]
        shares = [
            error / bound(tensor, by_name[result.name]) for result in group for tensor, error in result.errors.items()
        ]
        cells.append(f"{max(shares):.2f}" if shares else "")
        cells.append(_largest(error for result in group for error in result.true_mask_errors.values()))
        cells.append(_largest(result.mask_distance for result in group))
        lines.append("| " + " | ".join(cells) + " |")
    failed = [result for result in results if result.failures]
    lines += ["", f"## Failures: {len(failed)} of {len(results)} cases", ""]
    for result in failed:
        lines.append(f"- {result.name}: " + "; ".join(failure.splitlines()[0] for failure in result.failures))
    return "\n".join(lines).rstrip() + "\n"


def _largest(numbers: Any) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    # max() passes over a NaN that is not first
    return "nan" if any(number != number for number in known) else f"{max(known):.1e}"

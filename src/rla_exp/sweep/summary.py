"""What a sweep says when it is over: counts, and every failure with its cause, log tail and rerun command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rla_exp.sweep.job import JobOutcome, JobState

WORDS: dict[JobState, str] = {
    "done": "trained",
    "skipped": "finished before",
    "adopted": "trained by another sweep",
    "failed": "failed",
    "interrupted": "interrupted",
}


def summarize(outcomes: Sequence[JobOutcome]) -> str:
    """The closing words of a sweep, several lines where runs failed or were interrupted."""
    unique = {outcome.job.folder: outcome for outcome in outcomes}.values()
    counts = Counter(outcome.state for outcome in unique)
    head = ", ".join(f"{counts[state]} {word}" for state, word in WORDS.items() if counts[state])
    parts = [f"{len(unique)} runs: {head}" if unique else "no runs"]
    parts += [_failure(outcome) for outcome in unique if outcome.state == "failed"]
    if counts["interrupted"]:
        parts.append("The same command goes on with the interrupted runs.")
    return "\n".join(parts)


def _failure(outcome: JobOutcome) -> str:
    job = outcome.job
    before = " (in another sweep, not tried again)" if outcome.recorded else ""
    lines = [f"FAILED {job.name}{before}", f"  cause:  {_indent(outcome.cause or 'not recorded')}"]
    if outcome.log_tail:
        lines += [f"  log:    {job.folder / 'log.txt'}, which ends"]
        lines += [f"    | {line}" for line in outcome.log_tail.splitlines()]
    lines.append(f"  again:  {outcome.rerun_command}")
    return "\n".join(lines)


def _indent(text: str) -> str:
    return text.replace("\n", "\n          ")

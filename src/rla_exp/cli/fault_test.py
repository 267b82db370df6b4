"""`scripts/fault_test.py`: a sweep that is killed over and over must end with the numbers of one that was left alone.

Two sweeps of the same tiny runs on the CPU: one undisturbed, one disturbed by faults at random moments and started
again by the same command until it is done. Then the `metrics` of every result.json, and the losses of every logged
step, are compared bit for bit.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import UserError
from rla_exp.runs.files import expand_home
from rla_exp.sweep.faults import FAULTS, Scene


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


KEYS = {
    "seeds": Key(whole_number, "a whole number from 1 on", "seeds of each of the four models; default 3: 12 runs"),
    "faults": Key(whole_number, "a whole number from 1 on", "how many faults; default 60"),
    "steps": Key(whole_number, "a whole number from 1 on", "optimizer steps of a run; default 200"),
    "jobs": Key(whole_number, "a whole number from 1 on", "runs at a time; default 2"),
    "random_seed": Key(whole_number, "a whole number from 1 on", "which faults come when; default 1"),
    "gap": Key(_seconds, "seconds above 0", "the longest time from one fault to the next; default 2"),
    "folder": Key(expand_home, "a folder that is not there yet", "keep the runs there; default: nowhere"),
}

HELP = f"""Disturb a sweep at random until it is done and compare its numbers with those of an undisturbed one.

usage: python scripts/fault_test.py [key=value ...]

{describe_keys(KEYS)}

Exit code 0: every number is the same. 1: one differs, or a sweep never ended."""

SEGMENT = "[{length:16,num_pairs:2,num_examples:32}]"
TINY = (
    "model=rla,rdn",
    "ablation=full,no_residual",
    "model.d_model=16",
    "model.num_layers=1",
    "model.head_dim_k=8",
    "model.head_dim_v=8",
    "data.vocab_size=32",
    "data.batch_size=4",
    "optim.warmup_steps=0",
    *(f"data.{split}={SEGMENT}" for split in ("train", "valid", "test")),
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.log_every=1",
)


@dataclass(frozen=True, kw_only=True)
class FaultTestSettings:
    """The settings of the command; see KEYS."""

    seeds: int = 3
    faults: int = 60
    steps: int = 200
    jobs: int = 2
    random_seed: int = 1
    gap: float = 2.0
    folder: Path | None = None


@dataclass
class Report:
    """What was done to a sweep and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    """How often the command was given until it ended well."""
    runs: int = 0
    resumed: int = 0
    """Starts of a run from a checkpoint."""
    set_aside: int = 0
    """Damaged checkpoints that were found out and not used."""
    differing: list[str] = field(default_factory=list)
    """Runs whose numbers are not those of the undisturbed sweep."""
    seconds_undisturbed: float = 0.0
    seconds_disturbed: float = 0.0

    def text(self) -> str:
        """The report, in Markdown."""
        lines = [f"| {name} | {count} |" for name, count in sorted(self.faults.items())]
        seconds = f"{self.seconds_undisturbed:.0f}, {self.seconds_disturbed:.0f}"
        return "\n".join(
            [
                "| | |",
                "|---|--:|",
                f"| runs | {self.runs} |",
                *lines,
                f"| faults together | {self.faults.total()} |",
                f"| times the command was given | {self.starts} |",
                f"| starts from a checkpoint | {self.resumed} |",
                f"| damaged checkpoints set aside | {self.set_aside} |",
                f"| seconds, undisturbed and disturbed | {seconds} |",
                f"| runs whose numbers differ | {len(self.differing)} |",
            ]
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: _command(FaultTestSettings(**read_key_values(arguments, KEYS))))


def _command(settings: FaultTestSettings) -> None:
    report = fault_test(settings)
    print(report.text())
    if report.differing:
        raise UserError("these runs differ from the undisturbed sweep:\n  " + "\n  ".join(report.differing))


def fault_test(settings: FaultTestSettings) -> Report:
    """Run both sweeps and compare them.

    Raises:
        UserError: a sweep does not end.
    """
    report = Report()
    with _folder(settings.folder) as root:
        undisturbed, disturbed = root / "undisturbed", root / "disturbed"
        begun = time.monotonic()
        with _sweep(undisturbed, settings) as sweep:
            if sweep.wait() != 0:
                raise UserError(f"the undisturbed sweep failed:\n{_output(undisturbed)}")
        report.seconds_undisturbed = time.monotonic() - begun
        begun = time.monotonic()
        _disturb_until_done(disturbed, settings, report)
        report.seconds_disturbed = time.monotonic() - begun
        _compare(undisturbed, disturbed, report)
    return report


def _disturb_until_done(runs: Path, settings: FaultTestSettings, report: Report) -> None:
    rng = random.Random(settings.random_seed)
    kinds = list(FAULTS)
    plan = [kinds[index % len(kinds)] for index in range(settings.faults)]
    rng.shuffle(plan)
    while True:
        report.starts += 1
        with _sweep(runs, settings) as sweep:
            scene = Scene(sweep.pid, runs, rng)
            next_fault = time.monotonic() + rng.uniform(0.0, settings.gap)
            while sweep.poll() is None:
                time.sleep(0.02)
                if plan and time.monotonic() >= next_fault and FAULTS[plan[-1]](scene):
                    report.faults[plan.pop()] += 1
                    next_fault = time.monotonic() + rng.uniform(0.0, settings.gap)
        if sweep.returncode == 0:
            return
        if report.starts > 2 * settings.faults + 10:
            raise UserError(f"after {report.starts} starts the sweep is not done:\n{_output(runs)}")


def _compare(undisturbed: Path, disturbed: Path, report: Report) -> None:
    for file in sorted(undisturbed.rglob("result.json")):
        name = file.parent.relative_to(undisturbed)
        other = disturbed / name
        report.runs += 1
        if not (other / "result.json").exists() or _numbers(file.parent) != _numbers(other):
            report.differing.append(str(name))
        starts = re.findall(r"starting from step (\d+) ", (other / "log.txt").read_text(errors="replace"))
        report.resumed += sum(step != "0" for step in starts)
        report.set_aside += (other / "log.txt").read_text(errors="replace").count("is damaged")


def _numbers(run: Path) -> tuple[str, list[dict[str, float]]]:
    """The metrics of a result as the file's own digits, and every logged step without its timing."""
    metrics = json.dumps(json.loads((run / "result.json").read_text())["metrics"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return metrics, [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines]


@contextmanager
def _sweep(runs: Path, settings: FaultTestSettings) -> Iterator[subprocess.Popen[bytes]]:
    """The sweep, as a shell would start it; killed if the body raises."""
    runs.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "rla_exp.cli.train", "--multirun", *TINY),
        f"seed=range({settings.seeds})" if settings.seeds > 1 else "seed=0",
        f"trainer.max_steps={settings.steps}",
        f"trainer.checkpoint_every={max(1, settings.steps // 20)}",
        f"trainer.validate_every={max(1, settings.steps // 4)}",
        f"hydra.launcher.jobs={settings.jobs}",
        f"paths.runs={runs}",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        (runs / "output.txt").open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True) as sweep,
    ):
        try:
            yield sweep
        finally:
            sweep.kill()


def _output(runs: Path) -> str:
    return "\n".join((runs / "output.txt").read_text(errors="replace").splitlines()[-40:])


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        if kept.exists():
            raise UserError(f"{kept} is there already; choose another folder")
        yield kept.resolve()
        return
    # a worker whose sweep was just killed may still write
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())

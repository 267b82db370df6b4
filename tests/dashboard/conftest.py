"""Run folders as training leaves them, made in a moment: no test here trains."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from rla_exp.config import compose
from rla_exp.runs import Result, RunFolder, RunState, Status

MakeRun = Callable[..., RunFolder]
STEPS = range(20, 2001, 20)
ENVIRONMENT = {
    "started": "2026-11-23T12:00:00+0000",
    "overrides": ["model=rdn", "data=mqar"],
    "host": "laptop",
    "platform": "Linux-6.1",
    "python": "3.11.9",
    "versions": {"torch": "2.13.0", "triton": None},
    "device": {"type": "cpu", "name": "A processor"},
    "git": {"commit": "0" * 40, "dirty": False},
    "sources": "ab" * 32,
}


@pytest.fixture(scope="session")
def base_config() -> dict[str, Any]:
    return compose(["model=rdn", "data=mqar"]).resolved


def curve_row(step: int, seed: int, level: float, num_layers: int) -> dict[str, Any]:
    """A line of metrics.jsonl: losses fall towards `level`, gates and residuals drift with depth."""
    wave = 0.05 * math.sin(step / 90 + seed + 9 * level)
    row: dict[str, Any] = {
        "step": step,
        "train/loss": level + 3 * math.exp(-step / 400) + wave + 0.03 * seed,
        "train/lr": 0.01 * (1 - step / 2500),
        "train/grad_norm": 0.5 + level + abs(wave) * 4,
        "tokens_per_s": 50_000.0 + 900 * seed,
    }
    if step % 200 == 0:
        row["valid/loss"] = row["train/loss"] + 0.1
        row["valid/accuracy"] = 1 - level * math.exp(-step / 500)
        for layer in range(num_layers):
            row[f"diag/layer{layer}/gamma_mean"] = 0.3 + 0.2 * level + 0.08 * layer + wave
            row[f"diag/layer{layer}/share_clipped"] = 0.3 * level * math.exp(-step / 700) / (layer + 1)
            row[f"diag/layer{layer}/residual_norm"] = 2.0 + level + layer + wave
    return row


@pytest.fixture(scope="session")
def make_run(base_config: dict[str, Any]) -> MakeRun:
    """make_run(runs, "study/rdn-full-mqar-00000001", seed=0, settings={"optim.lr": 0.1}) -> its folder."""

    def make(
        runs: Path,
        key: str,
        *,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        state: RunState = "done",
        level: float = 0.5,
        num_layers: int = 0,
        steps: range = STEPS,
        rows: list[dict[str, Any]] | None = None,
        error: str | None = None,
    ) -> RunFolder:
        folder = RunFolder(runs / key / f"seed{seed}")
        folder.create()
        config = deepcopy(base_config)
        for name, value in {"experiment": key.rpartition("/")[0], "seed": seed, **(settings or {})}.items():
            *sections, last = name.split(".")
            place = config
            for section in sections:
                place = place[section]
            place[last] = value
        lines = rows if rows is not None else [curve_row(step, seed, level, num_layers) for step in steps]
        # files are written plainly: no disk needs to be waited for
        (folder.path / "config.yaml").write_text(json.dumps(config))
        (folder.path / "environment.json").write_text(json.dumps(ENVIRONMENT))
        (folder.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder.path / "log.txt").write_text("2026-11-23 12:00:00 INFO rla_exp.lit.fit: starting from step 0 of 2000\n")
        last_step = lines[-1]["step"] if lines else 0
        status = Status(
            state=state, step=last_step, max_steps=STEPS[-1], loss=level, tokens_per_s=5e4, error=error, updated=1.79e9
        )
        (folder.path / "status.json").write_text(json.dumps(status.to_json()))
        if state == "done":
            metrics = {
                "test/accuracy": 1 - level + 0.01 * seed,
                "test/loss": level,
                "parameters": 1e5,
                "state_bytes": 4096.0,
            }
            timing = {"tokens_per_s": 5e4, "seconds": 125.0, "peak_mib": 512.0}
            folder.write_result(Result(metrics, timing, {"device": "A processor"}))
        return folder

    return make


@pytest.fixture(scope="session")
def make_study(make_run: MakeRun) -> Callable[..., Path]:
    """make_study(runs, num_groups, num_seeds) -> runs: that many groups of two models in experiments of 50 groups."""

    def make(runs: Path, num_groups: int, num_seeds: int, **more: Any) -> Path:
        for number in range(num_groups):
            model = ("rdn", "rla")[number % 2]
            settings = {"model.name": model, "optim.lr": 0.001 * (1 + number // 2)}
            key = f"study{number // 50}/{model}-full-mqar-{number:08x}"
            for seed in range(num_seeds):
                level = 0.2 + 0.6 * ((number * 7) % 10) / 10
                make_run(runs, key, seed=seed, settings=settings, level=level, **more)
        return runs

    return make

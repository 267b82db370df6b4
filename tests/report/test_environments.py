"""What a table says of the machines that its runs were trained on."""

from __future__ import annotations

from typing import Any

from rla_exp.report.environments import to_environments
from rla_exp.report.outcome import Outcome
from rla_exp.report.spec import RunRequest

ENVIRONMENT: dict[str, Any] = {
    "started": "2026-01-02T00:00:00+0000",
    "overrides": ["seed=0"],
    "command": ["/home/someone/bin/rla-table", "table=ablation", "runs=/home/someone/runs"],
    "host": "vm",
    "versions": {"torch": "2.11.0"},
    "device": {"type": "cuda", "name": "A GPU", "uuid": "7"},
    "git": {"commit": "abc", "dirty": False},
    "sources": "f6",
    "self_checks": [{"ptxas": "13.5"}, {"kernel": "short_convolution"}],
}


def outcome(**more: Any) -> Outcome:
    request = RunRequest((), "rla/full", "mqar", 0)
    return Outcome(request, "done", "a/b/seed0", environment={**ENVIRONMENT, **more})


def test_each_environment_once_with_its_runs() -> None:
    earlier, other = "2026-01-01T00:00:00+0000", "2026-01-03T00:00:00+0000"
    runs = [
        outcome(),
        outcome(started=earlier, host="another", overrides=["seed=1"]),
        outcome(started=other, sources="a0"),
        Outcome(RunRequest((), "rla/full", "mqar", 1), "missing", ""),
    ]
    first, second = to_environments(runs)
    assert (first["runs"], first["first"], first["last"]) == (2, earlier, ENVIRONMENT["started"])
    assert (first["device"], first["ptxas"]) == ({"type": "cuda", "name": "A GPU"}, ["13.5"])
    assert (second["runs"], second["sources"]) == (1, "a0")


def test_the_machines_own_names_are_left_out() -> None:
    words = [
        "text=data/a.txt,/home/me/b.txt",
        "text='/home/me/c.txt'",
        "text=../home/d.txt",
        r"text=C:\home\e.txt",
        "a=b=c",
    ]
    (entry,) = to_environments([outcome(command=words)])
    assert entry["command"] == ["text=data/a.txt,b.txt", "text=c.txt", "text=d.txt", "text=e.txt", "a=b=c"]
    (entry,) = to_environments([outcome()])
    assert entry["command"] == ["rla-table", "table=ablation", "runs=runs"]
    assert "vm" not in str(entry)
    assert "home" not in str(entry)


def test_a_run_that_went_on_elsewhere_has_both() -> None:
    earlier = {**ENVIRONMENT, "device": {"type": "cuda", "name": "Another"}, "started": "2026-01-01T00:00:00+0000"}
    first, second = to_environments([outcome(earlier=[earlier]), outcome()])
    assert (first["device"]["name"], first["runs"]) == ("Another", 1)
    assert (second["device"]["name"], second["runs"]) == ("A GPU", 2)
    (unknown,) = to_environments([outcome(started=None)])
    assert (unknown["first"], unknown["last"]) == (None, None)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rla_exp.report import MixedRunsError
from rla_exp.report.caption import notes

if TYPE_CHECKING:
    from conftest import Runs

OTHER = "f" * 64


def test_runs_of_other_sources_and_devices_are_refused_by_name(runs: Runs) -> None:
    runs.mqar("rla/no_clip", 1, 0.5, 0.5, sources=OTHER)
    runs.mqar("rdn/full", 0, 0.5, 0.5, device="another processor")
    with pytest.raises(MixedRunsError) as caught:
        runs.collect()
    assert str(caught.value).splitlines() == [
        "the runs of this table cannot be compared:",
        "  - source differs: 0123456789ab (15 runs), ffffffffffff (1 run); not 0123456789ab:",
        "      default/rla-no_clip-mqar-00000000/seed1 (ffffffffffff)",
        "  - device differs: a processor (15 runs), another processor (1 run); not a processor:",
        "      default/rdn-full-mqar-00000000/seed0 (another processor)",
        "Remove these runs' folders and run the table again, or pass mixed=true to show them all the same.",
    ]


def test_corpora_are_compared_within_a_study(runs: Runs) -> None:
    # mqar has none and text has one: no mixture
    assert not any(origin.is_mixed for origin in runs.collect().origins)
    runs.text("rla/full", 2, 2.0, corpus_sha256=OTHER)
    with pytest.raises(
        MixedRunsError, match=r"corpus of Text differs: fedcba987654 \(5 runs\), ffffffffffff \(1 run\)"
    ):
        runs.collect()


def test_runs_with_timed_tiles_are_another_kind(runs: Runs) -> None:
    runs.mqar("rla/no_clip", 1, 0.5, 0.5, autotuned=True)
    with pytest.raises(MixedRunsError, match=r"autotuned tiles differs: no \(15 runs\), yes \(1 run\)"):
        runs.collect()


def test_a_mixture_that_is_asked_for_is_shown_and_says_so(runs: Runs) -> None:
    runs.mqar("rla/no_clip", 1, 0.51, 0.5, sources=OTHER)
    table = runs.collect(mixed=True)
    assert table.cells["rla/no_clip", "accuracy"].text == "0.520 ± 0.026"
    assert notes(table)[-2:] == [
        "MIXED, shown because mixed=true: these runs are not strictly comparable; source differs: 0123456789ab "
        "(15 runs), ffffffffffff (1 run).",
        "All runs: device a processor; corpus of Text fedcba987654.",
    ]


def test_runs_without_a_result_have_no_origin(empty: Runs) -> None:
    empty.status("rla/full", "mqar", 0, "failed", "out of memory")
    table = empty.collect()
    assert [dict(origin.runs) for origin in table.origins] == [{}, {}]
    assert not any(note.startswith("All runs") for note in notes(table))


def test_a_result_that_does_not_say_where_it_comes_from_is_a_mixture(empty: Runs) -> None:
    empty.mqar("rla/full", 0, 0.5, 0.5)
    empty.mqar("rla/full", 1, 0.5, 0.5, sources=None)
    with pytest.raises(MixedRunsError, match=r"source differs: 0123456789ab \(1 run\), none \(1 run\)"):
        empty.collect()

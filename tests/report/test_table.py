from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from rla_exp.errors import ConfigError, RunError
from rla_exp.report import Table, collect

if TYPE_CHECKING:
    from conftest import Runs


def test_mean_sd_and_n_over_seeds(table: Table) -> None:
    cell = table.cells["rla/full", "accuracy"]
    assert cell.values == {"mqar/seed0": 0.90, "mqar/seed1": 0.92, "mqar/seed2": 0.94}
    assert cell.summary is not None
    assert cell.summary.n == 3
    assert cell.summary.mean == pytest.approx(0.92, rel=1e-14)
    assert cell.summary.sd == pytest.approx(0.02, rel=1e-13)
    assert (cell.summary.min, cell.summary.max) == (0.90, 0.94)


def test_what_stands_in_the_cells(table: Table) -> None:
    texts = {row: [table.cells[row, key].text for key in table.spec.columns] for row in ("rla/value_state", "rdn/full")}
    assert texts == {
        "rla/value_state": [
            "0.940 ± 0.014, failed (1 of 3)",
            # the failed seed has not learned
            "2 of 3",
            "8 KiB",
            "1.00k ± 0.00k, failed (1 of 3)",
            "2.38 ± 0.12",
            "1 of 6",
        ],
        "rdn/full": [
            "0.970 ± 0.014, missing (1 of 3)",
            "2 of 2, missing (1 of 3)",
            "4 KiB",
            "1.00k ± 0.00k, missing (1 of 3)",
            "missing (3 of 3)",
            "0 of 2, missing (4 of 6)",
        ],
    }


def test_a_row_without_numbers_says_why(table: Table) -> None:
    assert table.cells["rdn/no_clip", "accuracy"].text == "missing (3 of 3)"
    assert table.cells["rdn/value_state", "accuracy"].text == "failed (3 of 3)"
    assert table.cells["rdn/value_state", "state"].text == "failed (3 of 3)"
    assert table.cells["rdn/value_state", "learned"].text == "0 of 3"
    assert table.cells["rdn/value_state", "failed"].text == "3 of 3, missing (3 of 6)"
    assert table.cells["rla/no_clip", "bits"].text == "\N{EN DASH}"
    assert (table.count("done"), table.count("failed"), table.count("missing")) == (16, 4, 10)


def test_differences_are_paired_with_the_reference_of_the_group(table: Table) -> None:
    difference = table.cells["rla/no_clip", "accuracy"].difference
    assert difference is not None
    # -0.40, -0.41, -0.39
    assert (difference.reference, difference.n) == ("full", 3)
    assert difference.mean == pytest.approx(-0.4, rel=1e-14)
    assert difference.half_width == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert table.cells["rla/no_clip", "accuracy"].mark == "worse"
    # seeds 0 and 2 alone: 0.05 and -0.01
    difference = table.cells["rla/value_state", "accuracy"].difference
    assert difference is not None
    assert difference.n == 2
    assert difference.mean == pytest.approx(0.02, rel=1e-13)
    assert table.cells["rla/value_state", "accuracy"].mark is None
    # more bits are worse
    assert table.cells["rla/value_state", "bits"].mark == "worse"
    assert table.cells["rla/full", "accuracy"].difference is None
    assert table.cells["rdn/no_clip", "accuracy"].difference is None


def test_the_best_row_is_told_apart_from_all_finished_rows(table: Table) -> None:
    # value_state has a failed seed: not compared, not best; full leads no_clip by 0.41, 0.43, 0.42
    assert [key for key, cell in table.cells.items() if cell.best] == [("rla/full", "accuracy"), ("rla/full", "bits")]


def best_of(runs: Runs) -> list[tuple[str, str]]:
    return [key for key, cell in runs.collect().cells.items() if cell.best]


def test_the_best_row_is_chosen_on_validation_data(empty: Runs) -> None:
    for seed in range(3):
        for group in ("rla", "rdn"):
            empty.mqar(f"{group}/full", seed, test=0.5, valid=0.5)
            empty.mqar(f"{group}/no_clip", seed, test=0.8, valid=0.8 + 0.01 * seed)
            empty.mqar(f"{group}/value_state", seed, test=0.7, valid=0.7)
    assert best_of(empty) == [("rla/no_clip", "accuracy"), ("rdn/no_clip", "accuracy")]
    chosen_by = empty.collect().cells["rla/no_clip", "accuracy"].selection
    assert chosen_by is not None
    assert chosen_by.mean == pytest.approx(0.81, rel=1e-14)


@pytest.mark.parametrize("full", [0.9, 0.6])
def test_no_row_is_best_that_the_numbers_shown_do_not_tell_apart(empty: Runs, full: float) -> None:
    """On test data the row that leads on validation data is the worst one, or within noise."""
    for seed in range(3):
        for group in ("rla", "rdn"):
            empty.mqar(f"{group}/full", seed, test=full, valid=0.5)
            empty.mqar(f"{group}/no_clip", seed, test=0.6 + (full == 0.6) * 0.1 * (seed - 1), valid=0.8 + 0.01 * seed)
            empty.mqar(f"{group}/value_state", seed, test=0.3, valid=0.7)
    assert best_of(empty) == []
    assert (empty.collect().cells["rla/no_clip", "accuracy"].mark == "worse") == (full == 0.9)


@pytest.mark.parametrize("leads", [(0.1, 0.1, -0.05), (0.0, 0.0, 0.0)])
def test_within_noise_no_row_is_best_and_none_is_marked(empty: Runs, leads: tuple[float, float, float]) -> None:
    for seed, lead in enumerate(leads):
        empty.mqar("rla/full", seed, 0.5 + lead, 0.5 + lead)
        empty.mqar("rla/no_clip", seed, 0.5, 0.5)
        empty.mqar("rla/value_state", seed, 0.1, 0.1)
    cells = empty.collect().cells
    assert not any(cell.best for cell in cells.values())
    assert cells["rla/no_clip", "accuracy"].mark is None
    assert cells["rla/value_state", "accuracy"].mark == "worse"


def test_while_a_run_is_missing_no_row_of_its_group_is_best(runs: Runs) -> None:
    (runs.folder("rla/no_clip", "mqar", 2) / "result.json").unlink()
    cells = runs.collect().cells
    assert [key for key, cell in cells.items() if cell.best] == [("rla/full", "bits")]


def test_a_higher_accuracy_of_another_row_is_marked_better(empty: Runs) -> None:
    for seed in range(3):
        empty.mqar("rla/full", seed, 0.5, 0.5)
        empty.mqar("rla/value_state", seed, 0.75, 0.75)
        empty.text("rla/full", seed, 2.0)
        empty.text("rla/value_state", seed, 1.5)
    cells = empty.collect().cells
    assert cells["rla/value_state", "accuracy"].mark == "better"
    assert cells["rla/value_state", "bits"].mark == "better"
    assert cells["rla/value_state", "bits"].best


def test_one_seed_has_a_number_but_no_spread_and_no_marks(one_seed: Runs) -> None:
    for row, value in {"rla/full": 0.9, "rla/no_clip": 0.2, "rdn/full": 0.9, "rdn/no_clip": 0.2}.items():
        one_seed.mqar(row, 7, value, value)
    table = one_seed.collect()
    assert table.cells["rla/full", "accuracy"].text == "0.900"
    assert not any(cell.best or cell.mark for cell in table.cells.values())


def test_before_any_run_everything_is_missing(empty: Runs) -> None:
    table = empty.collect()
    assert table.count("missing") == len(table.outcomes) == 30
    assert {cell.text for cell in table.cells.values() if cell.column == "accuracy"} == {"missing (3 of 3)"}
    assert table.cells["rdn/full", "failed"].text == "missing (6 of 6)"


@pytest.mark.parametrize("state", ["queued", "running", "interrupted", "done"])
def test_a_run_without_a_result_is_missing_whatever_its_status(empty: Runs, state: str) -> None:
    empty.status("rla/full", "mqar", 0, state)
    assert empty.collect().cells["rla/full", "accuracy"].text == "missing (3 of 3)"


def test_a_result_counts_whatever_the_status(empty: Runs) -> None:
    empty.mqar("rla/full", 0, 0.5, 0.5)
    empty.status("rla/full", "mqar", 0, "failed", "an earlier attempt")
    assert empty.collect().cells["rla/full", "accuracy"].text == "0.500, missing (2 of 3)"


def test_a_number_that_is_not_finite_makes_the_run_a_failed_one(empty: Runs) -> None:
    empty.mqar("rla/full", 0, float("nan"), 0.5)
    empty.mqar("rla/full", 1, 0.5, float("inf"))
    empty.mqar("rla/full", 2, 0.5, 0.5)
    cell = empty.collect().cells["rla/full", "accuracy"]
    assert cell.text == "0.500, failed (2 of 3)"
    assert [run.error for run in cell.runs] == ["not finite: test/accuracy", "not finite: valid/accuracy", None]


def test_a_damaged_result_is_named(empty: Runs) -> None:
    path = empty.folder("rla/full", "mqar", 0) / "result.json"
    path.write_text('{"metrics": {', encoding="utf-8")
    with pytest.raises(RunError, match=r"seed0/result.json"):
        empty.collect()


def test_keys_that_runs_lack_are_refused_all_at_once(empty: Runs) -> None:
    empty.done("rla/full", "mqar", 0, {"test/accuracys": 0.5, "valid/accuracy": 0.5})
    with pytest.raises(ConfigError) as caught:
        empty.collect()
    where = "default/rla-full-mqar-00000000/seed0"
    known = "known: test/accuracys, valid/accuracy"
    assert caught.value.problems == (
        f"columns.accuracy: {where}: key test/accuracy is unknown; {known}; did you mean test/accuracys?",
        f"columns.learned: {where}: key test/accuracy is unknown; {known}; did you mean test/accuracys?",
        f"columns.state: {where}: key state_bytes is unknown; {known}",
    )


def test_only_the_given_folders_are_read(runs: Runs) -> None:
    table = collect(runs.spec, {})
    assert table.count("missing") == 30

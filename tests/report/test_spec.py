from pathlib import Path

import pytest

from rla_exp.errors import ConfigError
from rla_exp.report import RunRequest, TableSpec
from rla_exp.report.local_text import LocalText
from rla_exp.report.spec import merge_overrides


def problems_of(tables: Path, old: str, new: str, scale: str = "cpu") -> list[str]:
    """What is said about the small table after a change of its text."""
    path = tables / "small.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        TableSpec.load("small", scale, folder=tables)
    return list(caught.value.problems)


def test_every_row_runs_on_every_study_of_its_scale_seed_by_seed(tables: Path) -> None:
    runs = TableSpec.load("small", "cpu", folder=tables).runs()
    # per seed: 6 rows on mqar, 2 rows of 2 groups on text
    assert len(runs) == len(set(runs)) == 3 * (6 + 4)
    assert [run.seed for run in runs] == [0] * 10 + [1] * 10 + [2] * 10
    assert [run.row for run in runs if (run.study, run.seed) == ("text", 1)] == [
        "rla/full",
        "rla/value_state",
        "rdn/full",
        "rdn/value_state",
    ]


def test_later_layers_of_overrides_win(tables: Path) -> None:
    runs = TableSpec.load("small", "cpu", folder=tables).runs()
    # the scale's learning rate replaces the study's, the scale's for the study replaces that
    assert runs[0] == RunRequest(
        ("trainer.progress=false", "optim.lr=1e-3", "size=tiny", "data=mqar", "model=rla", "ablation=full", "seed=0"),
        "rla/full",
        "mqar",
        0,
    )
    text = next(run for run in runs if run.study == "text")
    assert "optim.lr=3e-3" in text.overrides
    assert "optim.lr=1e-3" not in text.overrides


def test_a_key_is_given_once_whatever_its_value() -> None:
    assert merge_overrides(["a=1", "data.train=[{length: 4}]"], ["b=x=y", "a=2"]) == (
        "a=2",
        "data.train=[{length: 4}]",
        "b=x=y",
    )


def test_a_scale_shows_its_rows_studies_and_columns(tables: Path) -> None:
    cpu = TableSpec.load("small", "cpu", folder=tables)
    large = TableSpec.load("small", "large", folder=tables)
    assert list(cpu.columns) == ["accuracy", "learned", "state", "speed", "bits", "failed"]
    # text does not run at this scale, so its column is gone; no row is left that nothing runs for
    assert list(large.columns) == ["accuracy", "learned", "state", "speed", "wide", "failed"]
    assert [row.id for row in large.rows] == ["rla/full", "rla/no_clip", "rdn/full", "rdn/no_clip"]
    assert (large.seeds, large.warning, large.lr_rule) == ((7,), "Numbers mean nothing.", "tuned.")
    assert large.caption == "A small table. Larger."


def test_seeds_can_be_chosen(tables: Path) -> None:
    assert TableSpec.load("small", "cpu", [5, 0], folder=tables).seeds == (5, 0)


def test_studies_can_be_chosen(tables: Path) -> None:
    spec = TableSpec.load("small", "cpu", folder=tables)
    mqar = spec.with_studies(["mqar"])
    assert list(mqar.columns) == ["accuracy", "learned", "state", "speed", "failed"]
    assert {request.study for request in mqar.runs()} == {"mqar"}
    assert mqar.caption == f"{spec.caption} Not in this table: Text."
    assert spec.with_studies(["text", "mqar"]) is spec
    words = spec.with_studies(["text"])
    assert list(words.columns) == ["bits", "failed"]
    with pytest.raises(ConfigError, match="study txt is unknown; known: mqar, text; did you mean text"):
        spec.with_studies(["mqar", "txt"])


def test_text_that_no_chosen_study_reads_is_refused() -> None:
    spec = TableSpec.load("ablation", "gpu", text=LocalText(("a.txt",)))
    assert {request.study for request in spec.with_studies(["text"]).runs()} == {"text"}
    with pytest.raises(ConfigError, match="text: has no effect on studies=mqar, which read none"):
        spec.with_studies(["mqar"])


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1]])
def test_wrong_seeds_are_refused(tables: Path, seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match="seeds are one or more distinct integers from 0 on"):
        TableSpec.load("small", "cpu", seeds, folder=tables)


def test_an_unknown_table_or_scale_is_named_with_the_known_ones(tables: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        TableSpec.load("smal", "cpu", folder=tables)
    assert caught.value.problems == ("table smal is unknown; known: small; did you mean small?",)
    with pytest.raises(ConfigError) as caught:
        TableSpec.load("small", "lage", folder=tables)
    assert caught.value.problems == ("scale lage is unknown; known: cpu, large; did you mean large?",)


def test_a_file_that_is_no_yaml_is_refused(tables: Path) -> None:
    (tables / "small.yaml").write_text("title: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"small.yaml: cannot be read as YAML"):
        TableSpec.load("small", "cpu", folder=tables)
    (tables / "small.yaml").write_text("- a", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"small.yaml: a table is a mapping of sections, not list"):
        TableSpec.load("small", "cpu", folder=tables)


def test_unknown_keys_and_wrong_references_are_reported_together(tables: Path) -> None:
    text = (tables / "small.yaml").read_text(encoding="utf-8")
    for old, new in {
        "reference: full": "reference: ful",
        "study: text": "study: txt",
        "direction: min": "directon: min",
        "scales: [large]": "scales: [larg]",
        "rows: [full, value_state]": "rows: [full, value_stat]",
        "warning: Numbers": "warnings: Numbers",
        "overrides: [model=rdn]": "overrides: [model]",
        "seeds: [7]": "seeds: [7, 7]",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tables / "small.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        TableSpec.load("small", "cpu", folder=tables)
    assert sorted(problem.removeprefix("small.yaml: ") for problem in caught.value.problems) == [
        "columns.bits.directon: key directon is unknown; known: label, scales, kind, study, metric, direction, "
        "chosen_by, format, limits, figure; did you mean direction?",
        "columns.bits.study: study txt is unknown; known: mqar, text; did you mean text?",
        "columns.wide.scales: scale larg is unknown; known: cpu, large; did you mean large?",
        "groups.rdn.overrides: override 'model' is not of the form key=value",
        "reference: row ful is unknown; known: full, no_clip, value_state; did you mean full?",
        "scales.cpu.studies.text.rows: row value_stat is unknown; known: full, no_clip, value_state; "
        "did you mean value_state?",
        "scales.large.seeds: [7, 7]; seeds are distinct integers from 0 on",
        "scales.large.warnings: key warnings is unknown; known: warning, caption, corpus, lr_rule, seeds, overrides, "
        "groups, rows, studies, learning_rates, evaluation_limits, plan; did you mean warning?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title:", "titel:", "titel: key titel is unknown"),
        (
            "{label: full, ov",
            "{label: full, rows: 1, ov",
            "rows.full.rows: key rows is unknown; known: label, overrides, reference",
        ),
        (
            "text: {label: Text}",
            "text: {name: Text}",
            "studies.text.name: key name is unknown; known: label, overrides",
        ),
        ("{overrides: [data=mqar]}", "{override: []}", "scales.cpu.studies.mqar.override: key override is unknown"),
        ("    lr_rule: one value.\n", "", "scales.cpu.lr_rule: is missing"),
        ("kind: timing", "kind: time", "columns.speed: Input tag 'time' found"),
        ("direction: max", "direction: up", "columns.accuracy.direction: is 'up'; Input should be 'max' or 'min'"),
        ("format: si", "format: kilo", "columns.speed.format: is 'kilo'; Value error, a format is 'si'"),
        ("{overrides: [data=mqar]}", "{}\n      mqr: {}", "scales.cpu.studies: study mqr is unknown"),
    ],
)
def test_each_kind_of_mistake_is_named_with_its_place(tables: Path, old: str, new: str, problem: str) -> None:
    found = problems_of(tables, old, new)
    assert any(text.startswith(f"small.yaml: {problem}") for text in found), found

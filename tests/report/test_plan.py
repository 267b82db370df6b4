"""Plans: arithmetic that a hand can check."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rla_exp.cli import plan as command
from rla_exp.config import compose
from rla_exp.config.schema import TextConfig
from rla_exp.report import TableSpec
from rla_exp.report.cost import operator_flops, train_flops, train_memory, train_tokens, vocab_size
from rla_exp.report.plan import PlannedStudy, describe_plan, format_hours, memory_warnings

MQAR = ["model=rdn", "size=tiny", "data=mqar", "trainer=cpu", "trainer.max_steps=10", "optim.warmup_steps=0"]


def test_tokens_of_a_run() -> None:
    # 10 steps of 64 sequences of 64
    assert train_tokens(compose(MQAR).config) == 40960
    text = compose(
        ["data=stdlib_docs", "data.batch_size=8", "trainer.max_steps=5", "optim.warmup_steps=0", "trainer.accumulate=3"]
    ).config
    assert train_tokens(text) == 5 * 3 * 8 * 256
    # mixed lengths count by their examples: (64 * 100k + 128 * 20k + 3 * 256 * 20k) / 180k = 135.1
    zoology = compose(["data=mqar_zoology", "trainer.max_steps=1", "optim.warmup_steps=0", "model=rla"]).config
    assert train_tokens(zoology) == round(256 * (6.4e6 + 2.56e6 + 15.36e6) / 180000)


def test_the_paper_trains_on_100_billion_tokens() -> None:
    run = TableSpec.load("backbones", "paper").runs()[0]
    assert train_tokens(compose(run.overrides).config) == pytest.approx(1e11, rel=1e-4)


def test_operations_of_the_operator() -> None:
    # of two layers and heads: a write of 32 x 32 each to S and R, reads of S by q and k and by the rule, of R by q
    rdn, rla, gdn = (compose([f"model={name}", *MQAR[1:]]).config.model for name in ("rdn", "rla", "gated_delta_net"))
    unit = 2 * 2 * 2.0 * 32 * 32
    assert operator_flops(gdn, 64) == unit * 3
    assert operator_flops(rla, 64) == unit * 5
    assert operator_flops(rdn, 64) == unit * 7
    attention = compose(["model=transformer", *MQAR[1:]]).config.model
    assert operator_flops(attention, 100) == 2 * 2.0 * 100 * 4 * 32


def test_operations_and_memory_of_a_run() -> None:
    config = compose(MQAR).config
    assert train_flops(config, 1000) == pytest.approx(3 * (2000 + operator_flops(config.model, 64)) * 40960)
    tokens = 64 * 64
    assert train_memory(config, 1000) == 16 * 1000 + tokens * (2 * 16 * 64 * 4) + tokens * 66 * 8


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data=mqar"], (66, True)),
        (["data=stdlib_docs"], (257, True)),
        (["data=wikitext103", "data.tokenizer=bpe", "data.bpe_vocab_size=4096"], (4096, True)),
        (["data=wikitext103"], (50257, False)),
        (["data=wikitext103", "model.vocab_size=98304"], (98304, True)),
    ],
)
def test_the_vocabulary_that_a_plan_counts_with(overrides: list[str], expected: tuple[int, bool]) -> None:
    assert vocab_size(compose(["model=rla", *overrides]).config) == expected


@pytest.mark.parametrize(
    ("hours", "text"), [(0.005, "18 s"), (0.5, "30 min"), (5.62, "5.6 h"), (71.9, "71.9 h"), (240.0, "10 days")]
)
def test_hours_as_they_are_read(hours: float, text: str) -> None:
    assert format_hours(hours) == text


def test_the_plan_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["table=stability", "scale=paper", f"runs={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "  runs        24, 24 to do\n  parameters  1.55B a model\n  tokens      50.0B a run, 1.20T to do" in shown
    assert "GiB a job (estimated)" in shown
    assert "(assumed: 3.0e+14 FLOP/s)" in shown
    assert "in all: 24 runs, 24 to do, 1.20T tokens, about" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", ["ablation", "backbones", "clip", "recall", "stability"])
def test_no_job_at_the_papers_scale_needs_more_than_its_gpu(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([f"table={table}", "scale=paper", f"runs={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "Assumed: one H100" in shown
    assert "warning" not in shown
    memory = [float(number) for number in re.findall(r"  memory      ([\d.]+) GiB a job", shown)]
    assert 60 < max(memory) < 80
    spec = TableSpec.load(table, "paper")
    run = next(run for run in spec.runs() if run.study == "text")
    config = compose(run.overrides).config
    assert isinstance(config.data, TextConfig)
    # the paper's batch of 4M tokens
    assert config.data.batch_size * config.data.seq_len * config.trainer.accumulate == 2**22


def study(name: str, memory_mib: float) -> PlannedStudy:
    return PlannedStudy(
        name=name,
        num_runs=1,
        num_to_do=1,
        parameters=(10, 10),
        tokens_a_run=100,
        tokens_to_do=100,
        memory_mib=memory_mib,
        memory_is_measured=False,
        hours=1.0,
        rate="assumed",
    )


def test_a_job_that_its_gpu_cannot_hold_is_warned_of() -> None:
    spec = TableSpec.load("backbones", "paper")
    studies = [study("Text", 111 * 1024), study("Bytes", 80 * 1024)]
    shown = describe_plan(spec, studies, True, None).splitlines()
    assert [line for line in shown if line.startswith("warning")] == [
        "warning: Text: 111 GiB a job is more than the 80 GiB of one H100; in conf/table/backbones.yaml, scale paper, "
        "make data.batch_size smaller and trainer.accumulate larger by the same factor, so that a step keeps its tokens"
    ]
    # a machine without a GPU, and a table that assumes none
    assert memory_warnings(TableSpec.load("backbones", "cpu"), studies) == []
    assert memory_warnings(replace(spec, assumption=None), studies) == []


def test_settings_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["test_text=a.txt,b.txt"]) == 1
    assert "test_text=a.txt,b.txt: has no effect without text; set text too" in capsys.readouterr().err
    given = ["seeds=0,1", "jobs=2", "text=a.txt", "test_text=b.txt", "runs=there"]
    assert command.main(["table=kernels", "scale=smoke", *given]) == 1
    shown = capsys.readouterr().err
    for setting in given:
        assert (
            f"{setting}: has no effect with table=kernels, which trains nothing; allowed there: table, scale\n" in shown
        )


def test_the_plan_of_kernel_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["table=kernels", "scale=smoke"]) == 0
    # attention and five operators by chunks at two lengths, the five token by token at one; two passes
    assert "no runs: 34 times of CPU backends" in capsys.readouterr().out


def test_wrong_settings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["table=stabilty"]) == 1
    assert "did you mean stability?" in capsys.readouterr().err

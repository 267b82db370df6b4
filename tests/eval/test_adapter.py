"""lm-eval's view of our models: the same numbers as by hand, whatever the batch size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from rla_exp.config import compose
from rla_exp.data.tokenizer import ByteTokenizer, Encoded
from rla_exp.errors import ConfigError
from rla_exp.eval.adapter import RlaLM
from rla_exp.eval.context_rule import ContextRule
from rla_exp.eval.generation_kwargs import read_generation
from rla_exp.eval.restore import LoadedRun, load_run
from rla_exp.eval.scoring import Request
from rla_exp.generation import Sampling
from rla_exp.models import build_model

PAIRS = [
    ("", "The garden"),
    ("Document 3 says", " what document 2 did not"),
    ("Document 3 says", " nothing"),
    ("A trailing space moves into the continuation ", "here"),
    ("x", " y"),
    # nothing but white space goes to the continuation whole
    ("\n ", "The garden"),
]


def source(model: str, train_length: int = 32) -> SimpleNamespace:
    """An untrained model over bytes."""
    config = compose([f"model={model}", "size=tiny"]).config.model
    return SimpleNamespace(
        model=build_model(config, 257, seed=0).eval(), tokenizer=ByteTokenizer(), train_length=train_length
    )


def ask(kind: str, arguments: list[tuple[object, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, index) for index, given in enumerate(arguments)]


@torch.no_grad()
def by_hand(model: torch.nn.Module, context: str, continuation: str) -> float:
    """Nats of a continuation over bytes, from one whole pass."""
    row = [*(context.encode() or [256]), *continuation.encode()]
    log_probs = model(torch.tensor([row[:-1]]))[0].double().log_softmax(-1)
    first = len(row) - len(continuation.encode())
    return sum(float(log_probs[place - 1, row[place]]) for place in range(first, len(row)))


@pytest.mark.parametrize("name", ["rdn", "retnet", "transformer"])
def test_loglikelihood_is_the_models(name: str) -> None:
    given = source(name, train_length=1000)
    found = {}
    for batch_size in (1, 16):
        model = RlaLM(given, batch_size=batch_size)
        found[batch_size] = model.loglikelihood(ask("loglikelihood", PAIRS))
    for (context, continuation), one, many in zip(PAIRS, found[1], found[16], strict=True):
        # white space at the end of a context is scored with what follows, as lm-eval has it
        moved = len(context) - len(context.rstrip())
        expected = by_hand(given.model, context[: len(context) - moved], context[len(context) - moved :] + continuation)
        assert one[0] == pytest.approx(expected, abs=1e-5 * len(continuation))
        assert many[0] == pytest.approx(one[0], abs=1e-5 * len(continuation))
        assert one[1] == many[1]


def test_an_empty_continuation_is_refused() -> None:
    requests = [
        Instance("loglikelihood", {}, arguments, 0, metadata=("some_task", number, 1))
        for number, arguments in enumerate([("The garden", " is"), ("The garden", "")])
    ]
    with pytest.raises(ConfigError, match="some_task, document 1: the continuation after 'The garden' is empty"):
        RlaLM(source("rla")).loglikelihood(requests)


def test_a_token_across_the_border_leaves_a_continuation() -> None:
    class Merging(ByteTokenizer):
        """`ab` is one token, 200."""

        def encode(self, texts: Sequence[str]) -> list[Encoded]:
            merged = [np.frombuffer(text.encode().replace(b"ab", b"\xc8"), np.uint8) for text in texts]
            tokens = [np.append(row.astype(np.int64), self.end) for row in merged]
            return [Encoded(row, np.ones_like(row)) for row in tokens]

    given = source("rdn")
    given.tokenizer = Merging()
    model = RlaLM(given)
    ((nats, _), (whole, _)) = model.loglikelihood(ask("loglikelihood", [("xa", "b"), ("xa", "bc")]))
    # "xab" is two tokens, as is "xa": apart, what is asked for is scored
    assert nats == pytest.approx(by_hand(given.model, "xa", "b"), abs=1e-5)
    # where something is left, that is it, as lm-eval has it
    assert whole == pytest.approx(by_hand(given.model, "xa", "c"), abs=1e-5)


@pytest.mark.parametrize("name", ["rla", "transformer"])
def test_a_document_has_its_full_context_whatever_its_length(name: str) -> None:
    given = source(name, train_length=1000)
    text = "All of it is read in one go, and the state is carried. " * 4
    model = RlaLM(given)
    # in parts of few tokens
    model.scorer.max_tokens = 16
    (nats,) = model.loglikelihood_rolling(ask("loglikelihood_rolling", [(text,)]))
    assert nats == pytest.approx(by_hand(given.model, "", text), abs=1e-5 * len(text))
    (cut,) = RlaLM(given, context="windowed(32)").loglikelihood_rolling(ask("loglikelihood_rolling", [(text,)]))
    assert abs(cut - nats) > 1e-3


def test_windows_are_those_of_lm_eval() -> None:
    for length in range(1, 24):
        tokens = list(range(100, 100 + length))
        for window in range(1, 12):
            expected = [make_disjoint_window(pair) for pair in get_rolling_token_windows(tokens, 7, window, 1)]
            found = [(list(c), list(s)) for c, s in ContextRule(window).windows(tokens, 7)]
            assert found == expected


def test_context_is_cut_from_the_left() -> None:
    rule = ContextRule.parse("windowed(4)")
    assert rule.cut(Request([1, 2, 3, 4, 5], [6, 7])) == Request([3, 4, 5], [6, 7])
    assert ContextRule.parse("full").cut(Request([1, 2], [3])) == Request([1, 2], [3])
    with pytest.raises(ConfigError, match="a continuation has 5 tokens"):
        rule.cut(Request([1], [2, 3, 4, 5, 6]))
    for wrong in ("window(4)", "windowed(0)", "windowed(x)", ""):
        with pytest.raises(ConfigError, match=r"must be full, or windowed\(N\)"):
            ContextRule.parse(wrong)


def test_generation_is_greedy_until_a_stop_string_whatever_the_batch_size() -> None:
    given = source("rdn")
    prompts = ["a", "The garden ", "Document 3 says what"]
    requests = ask("generate_until", [(prompt, {"until": [], "max_gen_toks": 8}) for prompt in prompts])
    texts = {size: RlaLM(given, batch_size=size).generate_until(requests) for size in (1, 3)}
    assert texts[1] == texts[3]
    expected = list(prompts[1].encode())
    with torch.no_grad():
        for _ in range(8):
            token = int(given.model(torch.tensor([expected]))[0, -1, :257].argmax())
            if token == 256:
                break
            expected.append(token)
    made = bytes(expected[len(prompts[1]) :]).decode(errors="replace")
    assert texts[1][1] == made
    assert len(made) > 2
    stop = made[1]
    (cut,) = RlaLM(given).generate_until(ask("generate_until", [(prompts[1], {"until": [stop], "max_gen_toks": 8})]))
    assert cut == made[: made.index(stop)]


def test_what_is_drawn_does_not_depend_on_the_batch_size() -> None:
    given = source("rdn")
    # lengths that are not in order, and a prompt that comes twice
    prompts = ["The garden is", "a", "a", "Document 3 says what", "b ", "a"]
    how = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    requests = ask("generate_until", [(prompt, how) for prompt in prompts])
    texts = {size: RlaLM(given, batch_size=size).generate_until(requests) for size in (1, 2, 4)}
    assert texts[1] == texts[2] == texts[4]
    # each draws numbers of its own
    assert len({texts[1][1], texts[1][2], texts[1][5]}) == 3


def test_a_windowed_prompt_keeps_its_end() -> None:
    given = source("gated_delta_net")
    how = {"until": ["\n"], "max_gen_toks": 6}
    model = RlaLM(given, context="windowed(16)")
    (long,) = model.generate_until(ask("generate_until", [("0123456789abcdefghij", how)]))
    (short,) = model.generate_until(ask("generate_until", [("abcdefghij", how)]))
    assert long == short
    with pytest.raises(ConfigError, match="leave no room"):
        model.generate_until(ask("generate_until", [("a", {"max_gen_toks": 16})]))


def test_generation_settings() -> None:
    with pytest.raises(ConfigError) as error:
        RlaLM(source("rla")).generate_until(ask("generate_until", [("a", {"num_beams": 4, "top_kk": 5})]))
    beams, misspelt = error.value.problems
    assert beams.startswith("generation_kwargs.num_beams=4: not supported; allowed: do_sample, max_completion_tokens,")
    assert misspelt.endswith("did you mean top_k?")
    # what is written out though it does nothing
    neutral = {"top_p": 1.0, "num_beams": 1, "repetition_penalty": 1.0, "top_k": 0, "min_p": None}
    plain = {"until": "\n", "max_gen_toks": 8, "temperature": 0.7}
    assert read_generation({**plain, **neutral}) == read_generation(plain)
    assert read_generation(plain).sampling == Sampling(temperature=0.7)
    assert read_generation({**plain, "top_p": 0.9}).sampling == Sampling(temperature=0.7, top_p=0.9)
    assert read_generation({"do_sample": False, "temperature": 1.0, "top_p": 0.9}).sampling == Sampling()
    # as transformers does where no temperature is given
    assert read_generation({"do_sample": True, "top_k": 5}).sampling == Sampling(temperature=1.0, top_k=5)
    assert read_generation({}).max_new_tokens == 256


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("loglikelihood", ("x" * 40, " y")),
        ("loglikelihood_rolling", ("x" * 40,)),
        ("generate_until", ("x" * 40, {"max_gen_toks": 2})),
    ],
)
def test_a_transformer_beyond_its_length_warns_once(
    kind: str, arguments: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for name, expected in (("transformer", 1), ("rla", 0)):
        caplog.clear()
        model = RlaLM(source(name))
        for _ in range(2):
            getattr(model, kind)(ask(kind, [arguments]))
        assert sum("beyond the 32 tokens" in record.message for record in caplog.records) == expected


def test_registered_under_its_name(text_run: Path) -> None:
    assert get_model("rla_exp") is RlaLM
    model = RlaLM.create_from_arg_string(f"run={text_run},context=windowed(64)", {"batch_size": 2, "device": None})
    assert (str(model.context), model.batch_size) == ("windowed(64)", 2)
    with pytest.raises(ConfigError, match="run=FOLDER is missing"):
        RlaLM.create_from_arg_obj({})
    for text, reuses in (("reuse=False", False), ("reuse=true", True), ("batch_size=4", True)):
        model = RlaLM.create_from_arg_string(f"run={text_run},{text}")
        assert (model.scorer.min_shared is not None) is reuses
    with pytest.raises(ConfigError) as error:
        RlaLM.create_from_arg_string(f"run={text_run},reuse=no,contxt=full")
    unknown, value = error.value.problems
    assert unknown.startswith("model_args: contxt=full: there is no such setting; allowed: run, checkpoint, device,")
    assert unknown.endswith("did you mean context?")
    assert value == "model_args: reuse=no: must be true or false"


def test_a_model_of_numbers_has_no_texts(mqar_run: Path, loaded: LoadedRun) -> None:
    with pytest.raises(ConfigError, match="use eval=mqar"):
        RlaLM(load_run(mqar_run))
    with pytest.raises(ConfigError, match="batch_size=0"):
        RlaLM(loaded, batch_size=0)

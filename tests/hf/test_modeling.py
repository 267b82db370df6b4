"""An exported model computes what ours does, however it is called."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache, Trainer, TrainingArguments

from rla_exp.config import compose
from rla_exp.config.schema import ModelName
from rla_exp.errors import ConfigError
from rla_exp.hf import RlaExpConfig, RlaExpForCausalLM

NAMES = get_args(ModelName)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_ours(exported, tokens, name, tied):
    ours, theirs = exported(name, tie_embeddings=tied)
    batch = tokens(3, 40)
    assert not theirs.training
    torch.testing.assert_close(theirs(batch).logits, ours(batch), rtol=0, atol=1e-5)
    assert {key: value.dtype for key, value in theirs.state_dict().items()} == {
        f"model.{key}": torch.float32 for key in ours.state_dict()
    }


@pytest.mark.parametrize("name", NAMES)
def test_greedy_generation_is_ours(exported, tokens, decode_greedily, name):
    ours, theirs = exported(name)
    prompts = tokens(3, 7)
    made = theirs.generate(prompts, max_new_tokens=12, do_sample=False)
    torch.testing.assert_close(made, torch.cat([prompts, decode_greedily(ours, prompts, 12)], dim=1))
    without_cache = theirs.generate(prompts, max_new_tokens=12, do_sample=False, use_cache=False)
    torch.testing.assert_close(without_cache, made)


@pytest.mark.parametrize("name", NAMES)
def test_left_padded_prompts_generate_as_they_do_alone(exported, tokens, decode_greedily, name):
    ours, theirs = exported(name)
    lengths = [9, 4, 9, 1]
    prompts = tokens(4, 9)
    mask = torch.arange(9) >= 9 - torch.tensor(lengths)[:, None]
    made = theirs.generate(prompts, attention_mask=mask.long(), max_new_tokens=8, do_sample=False)[:, 9:]
    alone = [decode_greedily(ours, row[9 - length :][None], 8) for row, length in zip(prompts, lengths, strict=True)]
    torch.testing.assert_close(made, torch.cat(alone))


@pytest.mark.parametrize("name", NAMES)
def test_beams_of_padded_prompts_are_those_of_each_alone(exported, tokens, name):
    _, theirs = exported(name)
    prompts = tokens(2, 6)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": 3, "num_return_sequences": 2}
    together = theirs.generate(prompts, attention_mask=mask, **options)[:, 6:]
    alone = [theirs.generate(prompts[:1, 3:], **options)[:, 3:], theirs.generate(prompts[1:], **options)[:, 6:]]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cached", [True, False])
@torch.no_grad()
def test_padding_anywhere_is_left_out(exported, tokens, name, cached):
    # in float64, where rows by themselves and in a batch are equal but for padding
    ours, theirs = (model.double() for model in exported(name))
    batch = tokens(3, 10)
    mask = torch.tensor(
        [[0, 0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 1, 1, 1, 1]]
    )
    logits = theirs(batch, attention_mask=mask, use_cache=cached).logits
    for row, real, found in zip(batch, mask.bool(), logits, strict=True):
        torch.testing.assert_close(found[real], ours(row[real][None])[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_cache_goes_on_over_calls(exported, tokens, name):
    ours, theirs = (model.double() for model in exported(name))
    batch = tokens(2, 12)
    cache, logits = None, []
    for piece in batch.split([5, 1, 4, 1, 1], dim=1):
        output = theirs(piece, past_key_values=cache)
        cache = output.past_key_values
        logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), ours(batch), rtol=0, atol=1e-10)
    assert cache.get_seq_length() == 12
    # two rows of float64
    assert cache.num_bytes() == 2 * 2 * ours.state_bytes(12)


@pytest.mark.parametrize("name", ["transformer", "retnet", "rdn"])
def test_generation_goes_on_from_a_returned_cache(exported, tokens, decode_greedily, name):
    ours, theirs = exported(name)
    prompt = tokens(2, 5)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    first = theirs.generate(
        prompt, attention_mask=mask, max_new_tokens=4, do_sample=False, return_dict_in_generate=True
    )
    turn = torch.cat([first.sequences, tokens(2, 3, seed=1)], dim=1)
    # the last token that was made has not been read yet
    assert first.past_key_values.get_seq_length() == 5 + 4 - 1
    mask = F.pad(mask, (0, turn.shape[1] - 5), value=1)
    second = theirs.generate(
        turn, attention_mask=mask, past_key_values=first.past_key_values, max_new_tokens=5, do_sample=False
    )
    expected = torch.cat([decode_greedily(ours, turn[:1, 2:], 5), decode_greedily(ours, turn[1:], 5)])
    torch.testing.assert_close(second[:, turn.shape[1] :], expected)


@torch.no_grad()
def test_the_recurrent_cache_does_not_grow(exported, tokens):
    ours, theirs = exported("rdn")
    sizes = [theirs(tokens(1, length)).past_key_values.num_bytes() for length in (1, 50)]
    assert sizes == [ours.state_bytes(50)] * 2


@torch.no_grad()
def test_only_the_last_logits_are_computed_where_asked(exported, tokens):
    _, theirs = exported("rla")
    batch = tokens(2, 9)
    last = theirs(batch, logits_to_keep=2).logits
    torch.testing.assert_close(last, theirs(batch).logits[:, -2:], rtol=0, atol=1e-6)


def test_loss_is_the_mean_over_real_tokens_with_one_before_them(exported, tokens):
    ours, theirs = exported("rdn")
    theirs.train()
    batch = tokens(2, 6)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    output = theirs(batch, attention_mask=mask, labels=batch.masked_fill(mask == 0, -100))
    assert output.past_key_values is None
    short = F.cross_entropy(ours(batch[:1, 2:])[0, :-1], batch[0, 3:], reduction="sum")
    whole = F.cross_entropy(ours(batch[1:])[0, :-1], batch[1, 1:], reduction="sum")
    torch.testing.assert_close(output.loss, (short + whole) / 8, rtol=0, atol=1e-5)
    # with a cache the mask covers what was seen
    first, rest = batch[:, :3], batch[:, 3:]
    cache = theirs(first, attention_mask=mask[:, :3], use_cache=True).past_key_values
    later = theirs(rest, attention_mask=mask, past_key_values=cache, labels=rest)
    logits = torch.cat([ours(batch[:1, 2:])[:, 1:], ours(batch[1:])[:, 3:]])
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), rest[:, 1:].flatten())
    torch.testing.assert_close(later.loss, expected, rtol=0, atol=1e-5)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in theirs.parameters())


def test_transformers_trainer_learns_a_sequence(exported, tokens, tmp_path):
    _, theirs = exported("rdn", init_std=0.05)
    sequence = tokens(20).tolist()
    options = {"max_steps": 12, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}
    arguments = TrainingArguments(tmp_path, report_to=[], use_cpu=True, disable_tqdm=True, **options)
    trainer = Trainer(theirs, arguments, train_dataset=[{"input_ids": sequence, "labels": sequence}] * 96)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert float(losses[0]) == pytest.approx(math.log(29), rel=0.1)
    assert float(losses[-1]) < 0.3


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_grown_vocabulary_is_saved(exported, tokens, tmp_path, tied):
    _, theirs = exported("gated_delta_net", tie_embeddings=tied)
    before = theirs(tokens(1, 5)).logits
    theirs.resize_token_embeddings(32)
    theirs.save_pretrained(tmp_path / "grown")
    grown = RlaExpForCausalLM.from_pretrained(tmp_path / "grown")
    after = grown(tokens(1, 5)).logits
    assert after.shape[-1] == grown.config.vocab_size == 32
    torch.testing.assert_close(after[..., :29], before, rtol=0, atol=1e-5)


@torch.no_grad()
def test_half_precision_loads(exported, tokens, tmp_path):
    ours, _ = exported("rdn", init_std=0.02)
    half = RlaExpForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.bfloat16)
    batch = tokens(2, 20)
    logits = half(batch).logits
    assert logits.dtype == torch.bfloat16
    expected = ours(batch)
    assert (logits.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_parameters_without_a_checkpoint_follow_the_global_seed():
    def draw(seed):
        torch.manual_seed(seed)
        config = RlaExpConfig(model=_rdn(), vocab_size=29)
        return RlaExpForCausalLM(config).state_dict()

    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "model.blocks.0.mixer.qkv_proj.weight"
    assert not torch.equal(first[weight], other[weight])
    assert first[weight].std() == pytest.approx(0.1, rel=0.1)
    assert torch.equal(first["model.norm.weight"], torch.ones(64))


def test_parameters_that_a_checkpoint_lacks_are_drawn_and_named(exported, tmp_path):
    _, theirs = exported("rdn")
    state = theirs.state_dict()
    lacking = "model.blocks.1.mixer.decay.A_log"
    kept = {name: value for name, value in state.items() if name != lacking}
    theirs.save_pretrained(tmp_path / "lacking", state_dict=kept)
    loaded, report = RlaExpForCausalLM.from_pretrained(tmp_path / "lacking", output_loading_info=True)
    assert set(report["missing_keys"]) == {lacking}
    found = loaded.state_dict()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    # Mamba-2's range of A
    assert (found[lacking].exp() >= 1).all()
    assert (found[lacking].exp() <= 16).all()


def test_wrong_calls_say_what_is_allowed(exported, tokens):
    _, theirs = exported("rdn")
    batch = tokens(2, 4)
    with pytest.raises(ValueError, match="pad on the left"):
        theirs.generate(batch, attention_mask=torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), max_new_tokens=2)
    with pytest.raises(ValueError, match=r"attention_mask must be \[2, 4\] for 4 tokens after 0.*got \[2, 3\]"):
        theirs(batch, attention_mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match="row 1 has no token"):
        theirs(batch, attention_mask=torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]))
    with pytest.raises(ValueError, match=r"is a DynamicCache.*RecurrentCache"):
        theirs(batch, past_key_values=DynamicCache())
    cache = theirs(batch).past_key_values
    with pytest.raises(ValueError, match="holds 2 rows, input_ids 3"):
        theirs(tokens(3, 1), past_key_values=cache)
    with pytest.raises(ValueError, match="only the first call may have padding"):
        theirs(tokens(2, 2), attention_mask=torch.tensor([[1] * 6, [1] * 4 + [0, 1]]), past_key_values=cache)
    with pytest.raises(NotImplementedError, match="cannot go back"):
        cache.crop(1)
    with pytest.raises(TypeError, match="output_hidden_states"):
        theirs(batch, output_hidden_states=True)
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        theirs.generate(batch[:1], assistant_model=theirs, max_new_tokens=2)


def test_a_wrong_configuration_names_every_key():
    config = RlaExpConfig(model={**_rdn(), "rule": "gamma", "num_layers": 2.5, "speed": 1}, vocab_size=29)
    with pytest.raises(ConfigError) as caught:
        RlaExpForCausalLM(config)
    assert len(caught.value.problems) == 3
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "model.num_layers",
        "model.rule",
        "model.speed",
    ]


def _rdn():
    return asdict(compose(["model=rdn", "size=tiny"]).config.model)

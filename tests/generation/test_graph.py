"""The step under a CUDA graph writes what the step without one does."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from rla_exp.data.tokenizer import ByteTokenizer
from rla_exp.generation import Sampling, TextGenerator, graph
from rla_exp.generation.decoding import EagerStep
from rla_exp.generation.graph import GraphedStep, can_be_graphed
from rla_exp.generation.reading import read_prompts

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
LINEAR = ["linear_attention", "retnet", "mamba2", "delta_net", "gated_delta_net", "rla", "rdn"]


@pytest.fixture
def on_gpu(make_model):
    """make_model with the model on the GPU."""

    def make(name, **changes):
        return make_model(name, **changes).cuda()

    return make


class Replayed:
    """Stands in for a CUDA graph on a CPU: replaying runs the captured step again, into the tensor it first gave."""

    def __init__(self):
        self.owner = None

    def replay(self):
        self.owner._logits.copy_(self.owner._step())


@pytest.fixture
def replayed_on_cpu(monkeypatch):
    """Graphs without a GPU. What it cannot show is that a step can be captured at all."""

    class Stream:
        def wait_stream(self, other):
            pass

    class GraphOnCpu(GraphedStep):
        def __init__(self, model, batch_size):
            super().__init__(model, batch_size)
            self._graph.owner = self

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr("rla_exp.generation.generator.GraphedStep", GraphOnCpu)
    monkeypatch.setattr("rla_exp.generation.generator.can_be_graphed", lambda model: model.config.mixer == "linear")


@pytest.mark.usefixtures("replayed_on_cpu")
@pytest.mark.parametrize("name", LINEAR)
def test_fixed_buffers_write_the_same(name, make_model, monkeypatch):
    """Buffers are loaded, moved on in place and used again by the next call."""
    generator = TextGenerator(make_model(name).double(), ByteTokenizer())
    prompts = ["A needle", "", "Once upon a time there", "B needle"]
    arguments = {"max_new_tokens": 10, "sampling": Sampling(temperature=1.0)}
    graphed = [generator.generate(prompts, **arguments) for _ in range(2)]
    monkeypatch.setattr("rla_exp.generation.generator.can_be_graphed", lambda _: False)
    assert graphed == 2 * [generator.generate(prompts, **arguments)]


@pytest.mark.usefixtures("replayed_on_cpu")
def test_a_step_that_leaves_its_buffers_is_found(make_model, monkeypatch):
    model = make_model("rdn")

    def elsewhere(tokens, *, cache):
        layer = cache.layers[1]
        layer.state = layer.state._replace(R=layer.state.R.clone())
        return torch.zeros(*tokens.shape, model.config.d_model)

    monkeypatch.setattr(model, "hidden", elsewhere)
    with pytest.raises(RuntimeError, match=r"left its buffers: layers\.1\.R;"):
        GraphedStep(model, 1)


def test_only_steps_of_fixed_size_on_a_gpu_are_graphed(make_model):
    assert not can_be_graphed(make_model("rla"))


def test_lengths_on_the_device_are_followed(make_model):
    """What a graph replays must not know the position as a number: with a wrong `length` only `lengths` counts."""
    model = make_model("retnet").double()
    tokens = torch.arange(1, 10)[None]
    expected = model(tokens)
    cache = model.new_cache(1)
    cache.lengths = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        parts = []
        for part in (tokens[:, :5], tokens[:, 5:6], tokens[:, 6:7], tokens[:, 7:]):
            parts.append(model(part, cache=cache))
            cache.length = 0
    assert cache.lengths.tolist() == [9]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in LINEAR])
def test_logits_of_graph_and_model_agree(name, on_gpu):
    model = on_gpu(name)
    state = read_prompts(model, [[5, 6, 7, 8, 9], [1, 2, 3]])
    graphed = GraphedStep(model, 2)
    # a graph serves one state after another
    for _ in range(2):
        graphed.load(state.cache)
        eager = EagerStep(model, state.cache.select(torch.arange(2, device="cuda")))
        for token in range(40):
            tokens = torch.tensor([token, 2 * token], device="cuda")
            torch.testing.assert_close(graphed(tokens), eager(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in LINEAR])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_graph_and_model_write_the_same(name, temperature, on_gpu, monkeypatch):
    generator = TextGenerator(on_gpu(name), ByteTokenizer())
    prompts = ["A needle", "", "Once upon a time there", "B needle"]
    arguments = {"max_new_tokens": 64, "sampling": Sampling(temperature=temperature)}
    graphed = [generator.generate(prompts, **arguments) for _ in range(2)]
    assert graphed[0] == graphed[1]
    monkeypatch.setattr("rla_exp.generation.generator.can_be_graphed", lambda _: False)
    assert generator.generate(prompts, **arguments) == graphed[0]


@pytest.mark.parametrize("name", [pytest.param("rdn", marks=gpu)])
def test_two_streams_at_a_time_do_not_share_a_graph(name, on_gpu):
    generator = TextGenerator(on_gpu(name), ByteTokenizer())
    prompts = ["one", "another"]
    streams = [generator.stream([prompt], max_new_tokens=20) for prompt in prompts]
    texts = ["", ""]
    for pieces in zip(*streams, strict=False):
        for index, piece in enumerate(pieces):
            texts[index] += piece.text
    alone = [generator.generate([prompt], max_new_tokens=20)[0].text for prompt in prompts]
    assert all(whole.startswith(text[: len(whole)]) for whole, text in zip(alone, texts, strict=True))


@pytest.mark.parametrize("name", [pytest.param("transformer", marks=gpu)])
def test_a_growing_cache_is_not_graphed(name, on_gpu):
    model = on_gpu(name)
    assert not graph.can_be_graphed(model)
    assert len(TextGenerator(model, ByteTokenizer()).generate(["x"], max_new_tokens=5)) == 1

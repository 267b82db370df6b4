"""The decoding step as one CUDA graph: its kernels are launched together, which is most of a small step's time."""

from __future__ import annotations

import torch
from torch import Tensor

from rla_exp.models import Cache, LanguageModel

# calls before the capture, in which kernels are compiled, tuned and given their workspaces
_WARM_UP = 3


def can_be_graphed(model: LanguageModel) -> bool:
    """Whether the step of this model, where it is now, can be captured: a cache that grows cannot."""
    return model.embedding.weight.is_cuda and model.config.mixer == "linear"


class GraphedStep:
    """A step of `batch_size` rows from a state in fixed buffers."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, batch_size: int) -> None:
        """Captures the graph; the parameters are read where they lie now, so changes in place are seen."""
        self._model = model
        device = model.embedding.weight.device
        self._tokens = torch.zeros(batch_size, 1, dtype=torch.int64, device=device)
        self._cache = model.new_cache(batch_size)
        self._cache.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._buffers = self._cache.tensors()

        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._step()
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = self._step()
        moved = [
            name
            for name, tensor in self._cache.tensors().items()
            if tensor.data_ptr() != self._buffers[name].data_ptr()
        ]
        if moved:
            raise RuntimeError(f"the step left its buffers: {', '.join(moved)}; it must write them in place")

    def load(self, cache: Cache) -> None:
        """Go on from this cache, which is copied."""
        for name, tensor in cache.tensors().items():
            self._buffers[name].copy_(tensor)
        assert self._cache.lengths is not None
        if cache.lengths is None:
            self._cache.lengths.fill_(cache.length)
        else:
            self._cache.lengths.copy_(cache.lengths)

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: [B]. Returns logits [B, vocab_size] that the next call overwrites."""
        self._tokens.copy_(tokens.unsqueeze(1))
        self._graph.replay()
        return self._logits

    def _step(self) -> Tensor:
        return self._model.head(self._model.hidden(self._tokens, cache=self._cache)[:, -1])

"""Log-probabilities of continuations, exact and without padding, each common beginning read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rla_exp.eval.prefix_tree import MIN_SHARED, Segment, Tokens, prefix_tree
from rla_exp.generation.reading import num_even
from rla_exp.models import Cache, LanguageModel

# numbers in the largest tensor of logits; on a CPU no more than its cache holds, but rows enough to be worth a call
_MAX_LOGITS = 2**26
_MAX_LOGITS_ON_CPU = 2**18
_MIN_LOGIT_ROWS = 2**8
# of rows that are read together whatever batch_size: calls on few tokens take as long as calls on none
_FEW_TOKENS = 2**12
_FEW_STATE_BYTES = 2**26
# places in the largest mask of attention: queries of all rows times keys
_MAX_MASK = 2**26


class Request(NamedTuple):
    """What is to be scored after what."""

    context: Sequence[int]
    """At least one token."""
    continuation: Sequence[int]


class Score(NamedTuple):
    """Of one continuation."""

    log_prob: float
    """In nats, summed over the tokens in float64."""
    is_greedy: bool
    """Whether every token is the likeliest one at its place."""


class _Targets(NamedTuple):
    """What the positions of a batch's segments predict, [n] each, by segment and position."""

    row: NDArray[np.int64]
    """Of the batch."""
    position: NDArray[np.int64]
    """From the segment's beginning."""
    token: NDArray[np.int64]
    request: NDArray[np.int64]

    def select(self, which: NDArray[np.bool_]) -> _Targets:
        """Those that are marked."""
        return _Targets(*(column[which] for column in self))


class _Predicted(NamedTuple):
    """Of n targets."""

    log_prob: NDArray[np.float64]
    is_greedy: NDArray[np.bool_]


@dataclass
class _Item:
    """A segment to read, after row `row` of `cache` (None: at the beginning)."""

    segment: Segment
    cache: Cache | None
    row: int

    @property
    def length(self) -> int:
        return len(self.segment.tokens)


class Scorer:
    """Scores requests in batches: rows of different lengths are packed one after the other by cu_seqlens, each going on
    from its own state.

    No padding enters a state, so that a number depends on what it is batched with only by the rounding of matrix
    products.
    """

    def __init__(
        self, model: LanguageModel, *, batch_size: int = 32, max_tokens: int = 16384, reuse: bool = True
    ) -> None:
        """batch_size: rows at a time; of short ones with small states more. max_tokens: of all rows together in a call
        of the model; longer ones are read in parts. reuse: read common beginnings once; False is there for comparison.
        """
        self.model = model
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.min_shared = MIN_SHARED if reuse else None

    @torch.no_grad()
    def score(self, requests: Sequence[Request], advance: Callable[[int], object] | None = None) -> list[Score]:
        """The score of each request, in their order.

        advance: is told how many requests were finished since it was last called; those without a continuation are not
            counted.
        """
        log_prob = np.zeros(len(requests))
        is_greedy = np.ones(len(requests), dtype=np.bool_)
        rows = [np.fromiter((*request.context, *request.continuation), dtype=np.int64) for request in requests]
        first = [len(request.context) - 1 for request in requests]
        # the last token is only predicted; what has no continuation is read by nobody
        read = [index for index, request in enumerate(requests) if request.continuation]
        roots = prefix_tree([rows[index][:-1] for index in read], min_shared=self.min_shared)

        def targets(batch: list[_Item]) -> _Targets:
            spans = []
            for row, item in enumerate(batch):
                start, end = item.segment.start, item.segment.end
                for place in item.segment.rows:
                    request = read[place]
                    low, high = max(first[request], start), min(len(rows[request]) - 1, end)
                    if low < high:
                        spans.append((row, low, high, start, request))
            return _targets(spans, rows)

        def ends_in(segment: Segment) -> int:
            # a row may be the beginning of another, or the same
            return sum(len(rows[read[place]]) - 1 == segment.end for place in segment.rows)

        def run(items: list[_Item]) -> None:
            for batch in self._batches(items):
                children: list[_Item] = []
                for predicted, of in self._read(batch, targets, children):
                    np.add.at(log_prob, of, predicted.log_prob)
                    np.logical_and.at(is_greedy, of, predicted.is_greedy)
                if children:
                    run(children)
                if advance is not None:
                    advance(sum(ends_in(item.segment) for item in batch))

        run([_Item(segment, None, 0) for segment in roots])
        return [Score(float(nats), bool(greedy)) for nats, greedy in zip(log_prob, is_greedy, strict=True)]

    def _batches(self, items: list[_Item]) -> Iterator[list[_Item]]:
        """Items of like lengths together, shorter ones first; more than batch_size where they are few tokens."""
        batch: list[_Item] = []
        num_tokens = state_bytes = 0
        bytes_after = cache(self.model.state_bytes)
        for item in sorted(items, key=lambda item: item.length):
            num_tokens += item.length
            state_bytes += bytes_after(item.segment.end)
            is_small = num_tokens <= _FEW_TOKENS and state_bytes <= _FEW_STATE_BYTES
            if len(batch) >= self.batch_size and not is_small:
                yield batch
                batch, num_tokens, state_bytes = [], item.length, bytes_after(item.segment.end)
            batch.append(item)
        if batch:
            yield batch

    def _read(
        self, batch: list[_Item], targets: Callable[[list[_Item]], _Targets], after: list[_Item]
    ) -> Iterator[tuple[_Predicted, NDArray[np.int64]]]:
        """Read a batch, sorted by length; yields what was predicted, of which requests. `after` gets what follows."""
        device = self.model.embedding.weight.device
        cache = self._joined(batch)
        wanted = targets(batch)
        done = 0
        while batch:
            stop = done + self._tokens_at_once(len(batch), cache.length)
            even = num_even(max(0, batch[0].length - done), batch[-1].length - done)
            stop = min(stop, done + even) if even else stop
            parts = [item.segment.tokens[done:stop] for item in batch]
            hidden = self._hidden(parts, cache)
            now = wanted.select((wanted.position >= done) & (wanted.position < stop))
            if len(now.token):
                begins = np.array([0, *accumulate(map(len, parts))])
                yield self._predict(hidden, begins[now.row] + now.position - done, now.token), now.request
            left = next((row for row, item in enumerate(batch) if item.length > stop), len(batch))
            for row in range(left):
                # a row whose next parts are empty keeps its state
                after += [_Item(child, cache, row) for child in batch[row].segment.children if batch[row].length > done]
            done = stop
            # a copy is worth it where half of the rows go, or the others can go on side by side
            if left and (2 * left >= len(batch) or num_even(batch[left].length - done, batch[-1].length - done)):
                batch, wanted = batch[left:], wanted.select(wanted.row >= left)
                wanted = wanted._replace(row=wanted.row - left)
                if batch:
                    cache = cache.select(torch.arange(left, left + len(batch), device=device))

    def _tokens_at_once(self, num_rows: int, num_seen: int) -> int:
        """Of each row."""
        count = max(1, self.max_tokens // num_rows)
        if self.model.config.mixer == "attention":
            count = max(1, min(count, _MAX_MASK // (num_rows * (num_seen + count))))
        return count

    def _hidden(self, parts: Sequence[Tokens], cache: Cache) -> Tensor:
        """[tokens, d_model] of parts that follow the rows of the cache, one part after the other."""
        device = self.model.embedding.weight.device
        lengths = [len(part) for part in parts]
        if min(lengths) == max(lengths):
            return self.model.hidden(torch.from_numpy(np.stack(parts)).to(device), cache=cache).flatten(0, 1)
        packed = torch.from_numpy(np.concatenate(parts))[None].to(device)
        offsets = torch.tensor([0, *accumulate(lengths)], device=device)
        return self.model.hidden(packed, cu_seqlens=offsets, cache=cache)[0]

    def _joined(self, batch: list[_Item]) -> Cache:
        """A cache of its own for the batch, a row for each item."""
        if batch[0].cache is None:
            return self.model.new_cache(len(batch))
        device = self.model.embedding.weight.device
        # by the cache that they follow: items of equal length come from several
        order = sorted(range(len(batch)), key=lambda place: id(batch[place].cache))
        parts = []
        for _, same in groupby(order, key=lambda place: id(batch[place].cache)):
            places = list(same)
            source = batch[places[0]].cache
            assert source is not None
            parts.append(source.select(torch.tensor([batch[place].row for place in places], device=device)))
        if len(parts) == 1:
            return parts[0]
        return Cache.joined(parts).select(torch.tensor(np.argsort(order), device=device))

    def _predict(self, hidden: Tensor, place: NDArray[np.int64], token: NDArray[np.int64]) -> _Predicted:
        """The log-probability of token[i] after hidden[place[i]], and whether it is the likeliest."""
        log_probs, greedy = [], []
        most = _MAX_LOGITS_ON_CPU if hidden.device.type == "cpu" else _MAX_LOGITS
        step = max(_MIN_LOGIT_ROWS, most // self.model.vocab_size)
        for start in range(0, len(place), step):
            at = torch.from_numpy(place[start : start + step]).to(hidden.device)
            target = torch.from_numpy(token[start : start + step]).to(hidden.device)
            logits = self.model.head(hidden.index_select(0, at)).float()
            log_probs.append(-F.cross_entropy(logits, target, reduction="none"))
            # the first of equal ones, as decoding takes it; argmax takes as long as the logits themselves on a CPU
            highest = (logits.gather(1, target[:, None]).squeeze(1) == logits.amax(-1)).nonzero().squeeze(1)
            is_greedy = torch.zeros_like(target, dtype=torch.bool)
            is_greedy[highest] = logits[highest].argmax(-1) == target[highest]
            greedy.append(is_greedy)
        return _Predicted(torch.cat(log_probs).double().cpu().numpy(), torch.cat(greedy).cpu().numpy())


def _targets(spans: Sequence[tuple[int, int, int, int, int]], rows: Sequence[Tokens]) -> _Targets:
    """From (row of the batch, first and last predicting position of the request + 1, segment's start, request)."""
    row, low, high, start, request = np.array(spans, dtype=np.int64).reshape(-1, 5).T
    counts = high - low
    # of each span's positions one after the other
    position = np.arange(counts.sum()) + np.repeat(low - start - (counts.cumsum() - counts), counts)
    token = [rows[of][begin + 1 : end + 1] for _, begin, end, _, of in spans]
    joined = np.concatenate(token) if token else np.empty(0, dtype=np.int64)
    return _Targets(np.repeat(row, counts), position, joined, np.repeat(request, counts))

"""What decoding remembers: a state of constant size for the linear mixers, keys and values for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rla_exp.kernels import State
from rla_exp.models.sequence_layout import SequenceLayout


@dataclass
class LinearCache:
    """Of a linear mixer. state: S and R [B, H, K, V]; window: the convolution's last inputs [B, kernel - 1, C]."""

    state: State
    window: Tensor | None

    def select(self, rows: Tensor) -> LinearCache:
        """A copy whose row i is row rows[i] of this; rows: [n] integers."""
        # index_select copies rows; indexing, which does the same by element, takes several times as long on a CPU
        S, R, window = (
            None if x is None else x.index_select(0, rows) for x in (self.state.S, self.state.R, self.window)
        )
        assert S is not None
        return LinearCache(State(S, R), window)

    @classmethod
    def joined(cls, parts: Sequence[LinearCache]) -> LinearCache:
        """The rows of all parts, one part after the other."""
        states, windows = [part.state for part in parts], [part.window for part in parts]
        S = torch.cat([state.S for state in states])
        R = None if states[0].R is None else torch.cat([state.R for state in states if state.R is not None])
        window = None if windows[0] is None else torch.cat([window for window in windows if window is not None])
        return cls(State(S, R), window)

    def tensors(self) -> dict[str, Tensor]:
        """What it holds, by name."""
        named = {"S": self.state.S, "R": self.state.R, "window": self.window}
        return {name: x for name, x in named.items() if x is not None}

    def num_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in self.tensors().values())


# tokens that a copy of keys and values may go on with before it is copied again
_ROOM = 64


class KeyValueCache:
    """Of attention. Keys and values [B, H_kv, length, D], a token at its position, in buffers that double when full.

    Rows that have seen fewer tokens have places behind their end whose finite content means nothing.
    """

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._keys, self._values = keys, values
        self.length = length

    def append(self, k: Tensor, v: Tensor, layout: SequenceLayout) -> tuple[Tensor, Tensor]:
        """Add k and v, [B, H_kv, T, D], at the layout's positions; returns both as [B, H_kv, start + T, D], and
        gradients flow to these k and v.
        """
        start, end = layout.start, layout.start + k.shape[2]
        if end > self._keys.shape[2]:
            capacity = max(end, 2 * self._keys.shape[2])
            self._keys = self._grown(self._keys, capacity)
            self._values = self._grown(self._values, capacity)
        places: tuple[slice | Tensor, ...] = (slice(None), slice(start, end))
        if layout.starts is not None:
            # not what happens to lie there: a masked place has weight 0, and 0 x nan is nan
            self._keys[:, :, self.length : end] = 0
            self._values[:, :, self.length : end] = 0
            places = (torch.arange(len(k), device=k.device)[:, None], layout.positions)
        self.length = end
        both = []
        for buffer, new in ((self._keys, k.transpose(1, 2)), (self._values, v.transpose(1, 2))):
            by_token = buffer.transpose(1, 2)
            by_token[places] = new.detach().to(buffer.dtype)
            everything = by_token[:, :end].to(new.dtype)
            if torch.is_grad_enabled():
                everything = everything.clone()
                everything[places] = new
            both.append(everything.transpose(1, 2))
        return both[0], both[1]

    def select(self, rows: Tensor) -> KeyValueCache:
        """A copy whose row i is row rows[i] of this, with room for a few more tokens; rows: [n] integers."""
        keys, values = (self._selected(buffer, rows) for buffer in (self._keys, self._values))
        return KeyValueCache(keys, values, self.length)

    @classmethod
    def joined(cls, parts: Sequence[KeyValueCache]) -> KeyValueCache:
        """The rows of all parts, one part after the other."""
        length = max(part.length for part in parts)
        keys, values = zip(*(part.tensors().values() for part in parts), strict=True)
        return cls(_padded_rows(keys, length), _padded_rows(values, length), length)

    def tensors(self) -> dict[str, Tensor]:
        """Keys and values, [B, H_kv, length, D] each, by name."""
        return {"keys": self._keys[:, :, : self.length], "values": self._values[:, :, : self.length]}

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        batch_size, num_heads, _, head_dim = buffer.shape
        grown = buffer.new_empty(batch_size, num_heads, capacity, head_dim)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown

    def _selected(self, buffer: Tensor, rows: Tensor) -> Tensor:
        _, num_heads, _, head_dim = buffer.shape
        selected = buffer.new_empty(len(rows), num_heads, self.length + _ROOM, head_dim)
        torch.index_select(buffer[:, :, : self.length], 0, rows, out=selected[:, :, : self.length])
        return selected

    def num_bytes(self) -> int:
        """Bytes of the places up to the longest row's end, not of the room kept for more."""
        return sum(x.numel() * x.element_size() for x in self.tensors().values())


@dataclass
class Cache:
    """A whole model's, made by `LanguageModel.new_cache` and moved on in place by every call that gets it.

    No gradient passes through it from one call to the next.
    """

    layers: list[LinearCache | KeyValueCache]
    batch_size: int
    length: int = 0
    """Tokens seen, of the row that has seen most."""
    lengths: Tensor | None = None
    """[B] int64, tokens seen of each row, on the device. None: `length` of all, known without asking the device. The
    model counts on in place, so that a CUDA graph, which replays kernels alone, does too."""

    def advance(self, num_tokens: int | Tensor) -> None:
        """Count tokens that the layers have seen: as many of every row, or of row i num_tokens[i], [B]."""
        if isinstance(num_tokens, int):
            self.length += num_tokens
            if self.lengths is not None:
                self.lengths += num_tokens
            return
        before = torch.full_like(num_tokens, self.length) if self.lengths is None else self.lengths
        lengths = before + num_tokens
        self.length = int(lengths.max())
        self.lengths = None if bool((lengths == self.length).all()) else lengths.long()
        for layer in self.layers:
            if isinstance(layer, KeyValueCache):
                # of rows beside each other, it has kept places up to the longest part after the longest row
                layer.length = self.length

    def select(self, rows: Tensor) -> Cache:
        """A copy whose row i is row rows[i] of this; rows: [n] integers, any n, repeated ones too."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return Cache([layer.select(rows) for layer in self.layers], len(rows), self.length, lengths)

    @classmethod
    def joined(cls, parts: Sequence[Cache]) -> Cache:
        """The rows of all parts, one part after the other; they may have seen different numbers of tokens."""
        layers: list[LinearCache | KeyValueCache] = []
        for column in zip(*(part.layers for part in parts), strict=True):
            linear = [layer for layer in column if isinstance(layer, LinearCache)]
            attention = [layer for layer in column if isinstance(layer, KeyValueCache)]
            layers.append(LinearCache.joined(linear) if linear else KeyValueCache.joined(attention))
        length = max(part.length for part in parts)
        lengths = None
        if any(part.lengths is not None or part.length < length for part in parts):
            device = next(iter(parts[0].tensors().values())).device
            lengths = torch.cat(
                [
                    torch.full((part.batch_size,), part.length, device=device) if part.lengths is None else part.lengths
                    for part in parts
                ]
            )
        return cls(layers, sum(part.batch_size for part in parts), length, lengths)

    def tensors(self) -> dict[str, Tensor]:
        """What all layers hold, by names like "layers.0.S"; not copied."""
        return {f"layers.{i}.{name}": x for i, layer in enumerate(self.layers) for name, x in layer.tensors().items()}

    def num_bytes(self) -> int:
        return sum(layer.num_bytes() for layer in self.layers)


def zero_state(shape: tuple[int, int, int, int], *, two: bool, device: torch.device, dtype: torch.dtype) -> State:
    """The state before the first token. shape: (B, H, K, V). two: with R."""
    first = torch.zeros(shape, device=device, dtype=dtype)
    return State(first, torch.zeros_like(first) if two else None)


def _padded_rows(parts: Sequence[Tensor], length: int) -> Tensor:
    """Rows [B, H, any, D] of all parts as [rows, H, length, D], zeros behind their ends."""
    _, num_heads, _, head_dim = parts[0].shape
    rows = parts[0].new_zeros(sum(map(len, parts)), num_heads, length, head_dim)
    first = 0
    for part in parts:
        rows[first : first + len(part), :, : part.shape[2]] = part
        first += len(part)
    return rows

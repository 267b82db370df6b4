"""What decoding remembers: a state of constant size for the linear mixers, keys and values for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rla_exp.kernels import State


@dataclass
class LinearCache:
    """Of a linear mixer. state: S and R [B, H, K, V]; window: the convolution's last inputs [B, kernel - 1, C]."""

    state: State
    window: Tensor | None

    def select(self, rows: Tensor) -> LinearCache:
        """A copy whose row i is row rows[i] of this; rows: [n] integers."""
        R = self.state.R
        state = State(self.state.S[rows], None if R is None else R[rows])
        return LinearCache(state, None if self.window is None else self.window[rows])

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


class KeyValueCache:
    """Of attention. Keys and values [B, H_kv, length, D] in buffers that double when full."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values
        self.length = keys.shape[2]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k and v, [B, H_kv, T, D], and return all keys and values so far; gradients flow to these k and v."""
        end = self.length + k.shape[2]
        if end > self._keys.shape[2]:
            capacity = max(end, 2 * self._keys.shape[2])
            self._keys = self._grown(self._keys, capacity)
            self._values = self._grown(self._values, capacity)
        start, self.length = self.length, end
        self._keys[:, :, start:end] = k.detach()
        self._values[:, :, start:end] = v.detach()
        if torch.is_grad_enabled():
            earlier = (buffer[:, :, :start].to(k.dtype) for buffer in (self._keys, self._values))
            all_k, all_v = (torch.cat(pair, dim=2) for pair in zip(earlier, (k, v), strict=True))
            return all_k, all_v
        return self._keys[:, :, :end].to(k.dtype), self._values[:, :, :end].to(v.dtype)

    def select(self, rows: Tensor) -> KeyValueCache:
        """A copy whose row i is row rows[i] of this; rows: [n] integers."""
        return KeyValueCache(self._keys[rows, :, : self.length], self._values[rows, :, : self.length])

    def tensors(self) -> dict[str, Tensor]:
        """Keys and values of the tokens held, [B, H_kv, length, D] each, by name."""
        return {"keys": self._keys[:, :, : self.length], "values": self._values[:, :, : self.length]}

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        batch_size, num_heads, _, head_dim = buffer.shape
        grown = buffer.new_empty(batch_size, num_heads, capacity, head_dim)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown

    def num_bytes(self) -> int:
        """Bytes of the tokens held, not of the room kept for more."""
        return sum(x.numel() * x.element_size() for x in self.tensors().values())


@dataclass
class Cache:
    """A whole model's, made by `LanguageModel.new_cache` and moved on in place by every call that gets it.

    No gradient passes through it from one call to the next.
    """

    layers: list[LinearCache | KeyValueCache]
    batch_size: int
    length: int = 0
    """Tokens seen."""
    position: Tensor | None = None
    """[1] int64, the same number on the device, which the model then reads and counts on there: a CUDA graph replays
    kernels alone. None: not kept; selected and joined rows come without."""

    def select(self, rows: Tensor) -> Cache:
        """A copy whose row i is row rows[i] of this; rows: [n] integers, any n, repeated ones too."""
        return Cache([layer.select(rows) for layer in self.layers], len(rows), self.length)

    @classmethod
    def joined(cls, parts: Sequence[Cache]) -> Cache:
        """The rows of all parts, one part after the other, for models to which positions mean nothing.

        `length` is the longest part's: where parts differ in it, attention and rotary positions would go wrong.

        Raises:
            ValueError: the parts are attention's.
        """
        layers: list[LinearCache | KeyValueCache] = []
        for column in zip(*(part.layers for part in parts), strict=True):
            linear = [layer for layer in column if isinstance(layer, LinearCache)]
            if len(linear) < len(column):
                raise ValueError("keys and values of rows of different lengths cannot be joined")
            layers.append(LinearCache.joined(linear))
        return cls(layers, sum(part.batch_size for part in parts), max(part.length for part in parts))

    def tensors(self) -> dict[str, Tensor]:
        """What all layers hold, by names like "layers.0.S"; not copied."""
        return {f"layers.{i}.{name}": x for i, layer in enumerate(self.layers) for name, x in layer.tensors().items()}

    def num_bytes(self) -> int:
        return sum(layer.num_bytes() for layer in self.layers)


def zero_state(shape: tuple[int, int, int, int], *, two: bool, device: torch.device, dtype: torch.dtype) -> State:
    """The state before the first token. shape: (B, H, K, V). two: with R."""
    first = torch.zeros(shape, device=device, dtype=dtype)
    return State(first, torch.zeros_like(first) if two else None)

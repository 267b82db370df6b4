"""What generation carries between calls: a cache of `rla_exp.models` in the form of transformers."""

from __future__ import annotations

from typing import NoReturn

import torch
import transformers
from torch import Tensor

from rla_exp.models import Cache


class RecurrentCache(transformers.Cache):
    """The `past_key_values` of an exported model; padding never enters it.

    Every call that gets it moves it on in place. It holds the whole past in a state and cannot be cropped.
    """

    def __init__(self) -> None:
        # transformers' own layers are keys and values
        super().__init__(layers=[])
        self.rows: Cache | None = None
        """Of all rows, whatever their lengths; None before the first call."""
        self.columns = 0
        """Columns of the batch that it has seen, padding included."""

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - transformers' signature
        """Columns seen: where `generate` cuts the tokens that it goes on with."""
        return self.columns

    @property
    def is_croppable(self) -> bool:
        return False

    def crop(self, tokens_to_remove: int) -> NoReturn:
        """Raises NotImplementedError."""
        raise NotImplementedError(
            "a recurrent state cannot go back to an earlier token, so assisted decoding is not possible with it"
        )

    def num_bytes(self) -> int:
        """Bytes of the states, or of the keys and values, of all rows."""
        return 0 if self.rows is None else self.rows.num_bytes()

    @property
    def batch_size(self) -> int:
        """Rows held."""
        return 0 if self.rows is None else self.rows.batch_size

    def check_continuation(self, tokens: Tensor, real: Tensor | None) -> None:
        """Refuse tokens, [B, T], that cannot follow what was seen; real: as of `real_tokens`.

        Raises:
            ValueError: another batch, or padding behind tokens.
        """
        if len(tokens) != self.batch_size:
            raise ValueError(f"past_key_values holds {self.batch_size} rows, input_ids {len(tokens)}; they must agree")
        if real is not None:
            raise ValueError(
                "attention_mask has padding behind tokens that the cache has seen; only the first call may have "
                "padding: pass rows of other lengths one by one, each with a cache of its own"
            )

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes what row indices[i] was; indices: [n], any n."""
        if self.rows is not None:
            device = next(iter(self.rows.tensors().values())).device
            self.rows = self.rows.select(indices.to(device))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search: hypothesis i goes on from hypothesis beam_idx[i]."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times in a row."""
        self.batch_select_indices(torch.arange(self.batch_size).repeat_interleave(repeats))

    def reset(self) -> None:
        """Forget everything."""
        self.rows, self.columns = None, 0

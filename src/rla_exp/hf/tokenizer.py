"""Our tokenizers in transformers' form: a tokenizer.json that loads without this package."""

from __future__ import annotations

import json

import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rla_exp.data.tokenizer import END, ByteTokenizer, SubwordTokenizer, Tokenizer
from rla_exp.errors import DataError


def fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer whose ids and texts are those of `tokenizer`.

    It adds no token by itself. The end of a document is its bos, eos and padding token: in training a document follows
    the end of the one before. Special tokens spelled out in a text are text, as in training.

    Raises:
        DataError: the end of a document cannot have its number there.
        TypeError: a tokenizer of another kind.
    """
    if isinstance(tokenizer, ByteTokenizer):
        backend = _byte_level(tokenizer.end)
    elif isinstance(tokenizer, SubwordTokenizer):
        backend = _bare(tokenizer)
    else:
        raise TypeError(f"{type(tokenizer).__name__} has no tokenizer.json")
    end = backend.id_to_token(tokenizer.end)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
    )


def _byte_level(end: int) -> tokenizers.Tokenizer:
    """UTF-8's bytes by their values, as a byte-level BPE without merges."""
    # the library writes bytes as characters: those that print as themselves, the others in order from U+0100 on
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [character for character in alphabet if ord(character) < 256]
    others = sorted(set(range(256)) - set(map(ord, printable)))
    vocabulary = {character: ord(character) for character in printable}
    vocabulary |= dict(zip(alphabet[len(printable) :], others, strict=True))
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _with_end(backend, end)


def _bare(tokenizer: SubwordTokenizer) -> tokenizers.Tokenizer:
    content = json.loads(tokenizer.to_json())
    # what would put a bos token or the like around a text, which training did not
    content["post_processor"] = None
    return _with_end(tokenizers.Tokenizer.from_str(json.dumps(content)), tokenizer.end)


def _with_end(backend: tokenizers.Tokenizer, end: int) -> tokenizers.Tokenizer:
    if backend.id_to_token(end) is None:
        backend.add_special_tokens([END])
        if backend.token_to_id(END) != end:
            raise DataError(
                f"the tokenizer's numbers have gaps: the end of a document, token {end} of the model, would be number "
                f"{backend.token_to_id(END)} in its export; add {END} to the tokenizer and train anew"
            )
    return backend

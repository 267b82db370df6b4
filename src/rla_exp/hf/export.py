"""A trained model as a folder that transformers loads: configuration, safetensors, tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from transformers import GenerationConfig
from transformers.utils import logging

from rla_exp.data.tokenizer import Tokenizer
from rla_exp.errors import RunError
from rla_exp.hf.configuration import RlaExpConfig
from rla_exp.hf.modeling import RlaExpForCausalLM
from rla_exp.hf.tokenizer import fast_tokenizer
from rla_exp.models import LanguageModel


def export_model(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    folder: Path,
    *,
    train_length: int,
    provenance: Mapping[str, str | int],
) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files; all of them or none.

    Args:
        tokenizer: None: the model's tokens are no text, and none is written.
        folder: a new or an empty one.
        train_length: tokens of the longest training sequence, which config.json tells of attention.
        provenance: what the model comes from, for config.json.

    Raises:
        RunError: the folder holds something, or cannot be written.
        DataError: the tokenizer has no form that transformers reads.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"out={folder}: the folder is not empty; name a new one, or empty it first")
    config = RlaExpConfig.of(
        model.config,
        vocab_size=model.vocab_size,
        max_position_embeddings=train_length if model.config.mixer == "attention" else None,
        provenance=dict(provenance),
    )
    exported = RlaExpForCausalLM.around(model, config)
    end = None if tokenizer is None else tokenizer.end
    exported.generation_config = GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end)
    fast = None if tokenizer is None else fast_tokenizer(tokenizer)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # beside its place, so that it appears there at once and whole
        with _removed_after(Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))) as partial, _no_progress_bar():
            exported.save_pretrained(partial)
            if fast is not None:
                fast.save_pretrained(partial)
            partial.chmod(0o755)
            partial.replace(folder)
    except OSError as error:
        raise RunError(f"out={folder}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _removed_after(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

"""Text from a data set of the Hugging Face hub, downloaded or streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rla_exp.config.schema import TextConfig
from rla_exp.data.batch import Split
from rla_exp.data.document import Document
from rla_exp.data.files import record_name
from rla_exp.data.quiet_datasets import quiet_datasets
from rla_exp.errors import DataError, InterruptedRun


def hub_documents(config: TextConfig, *, show_progress: bool) -> Iterator[Document]:
    """Documents of the data set; its own validation and test splits are kept where it has both.

    Without them everything of its split `train` is held out by the hash of each text. `max_bytes` bounds the
    training text; of splits of its own it reads valid_fraction and test_fraction times as much.

    Raises:
        DataError: no network, no such data set, or no text under `text_key`; says how to go on offline.
    """
    with quiet_datasets(show_progress=show_progress) as datasets:
        try:
            loaded = datasets.load_dataset(
                config.hub_name, config.hub_config, revision=config.hub_revision, streaming=config.streaming
            )
            names: dict[str, Split | None] = {"train": None}
            if {"validation", "test"} <= set(loaded):
                names = {"train": "train", "validation": "valid", "test": "test"}
            for name, split in names.items():
                if name not in loaded:
                    raise DataError(f"{config.hub_name}: has no split 'train' (splits: {', '.join(loaded)})")
                yield from _bounded(loaded[name], config, split)
        # an order to stop is no fault of the hub
        except (DataError, InterruptedRun):
            raise
        # the library lets errors of its own, of httpx, fsspec and pyarrow through, which share no base class
        except Exception as error:
            raise DataError(_explain(config, error)) from error


def _bounded(rows: Any, config: TextConfig, split: Split | None) -> Iterator[Document]:
    share = {"valid": config.valid_fraction, "test": config.test_fraction}.get(split or "train", 1.0)
    limit = None if config.max_bytes is None else int(config.max_bytes * share)
    total = 0
    for row in rows:
        text = row.get(config.text_key)
        if not isinstance(text, str):
            raise DataError(
                f"{config.hub_name}: no text under {config.text_key!r} (columns: {', '.join(row)}); set data.text_key"
            )
        yield Document(record_name(text), text, split)
        total += len(text.encode())
        if limit is not None and total >= limit:
            return


def _explain(config: TextConfig, error: Exception) -> str:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else "no reason given"
    return (
        f"cannot read data.hub_name={config.hub_name}: {type(error).__name__}: {reason}. "
        "If this machine has no network: run once where there is one and copy the folder of paths.cache "
        "(or that of HF_HOME) here, or take local files with data=files data.paths=[...], "
        "or data=stdlib_docs, which needs neither"
    )

"""The `datasets` library without its prints, bars and reports home; imported only where text is really read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def quiet_datasets(*, show_progress: bool = False) -> Iterator[ModuleType]:
    """Yield the library with its log and download counts off, its bars as asked, and put everything back after."""
    # two seconds to import, which runs on a warm cache do not pay
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    verbosity, hub_verbosity = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = datasets.is_progress_bar_enabled()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    try:
        # what goes wrong is raised too, and reported by us with the key or file
        datasets.logging.set_verbosity(logging.CRITICAL)
        hub_logging.set_verbosity(logging.CRITICAL)
        (datasets.enable_progress_bars if show_progress else datasets.disable_progress_bars)()
        # a request to the network for every local file that is opened
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
        yield datasets
    finally:
        datasets.logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        (datasets.enable_progress_bars if bars else datasets.disable_progress_bars)()
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts

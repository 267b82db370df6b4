"""benchmarks/<gpu>.json, .md, .png and .svg."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from rla_exp.bench.figure import draw_times
from rla_exp.bench.markdown import to_markdown
from rla_exp.report.style import STYLE


def slug(gpu: str) -> str:
    """A device's name as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def write_content(content: dict[str, Any], folder: Path) -> Path:
    """The JSON alone, replaced as a whole; returns its path."""
    path = folder / f"{slug(content['gpu'])}.json"
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """As .png and .svg beside `path`, without dates: the same numbers give the same bytes."""
    paths = []
    with mpl.rc_context(STYLE):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            paths.append(path.with_suffix(f".{kind}"))
            figure.savefig(paths[-1], metadata=metadata)
    return paths


def write_benchmark(content: dict[str, Any], folder: Path) -> list[Path]:
    """All files of a finished benchmark; returns their paths."""
    path = write_content(content, folder)
    table = path.with_suffix(".md")
    table.write_text(to_markdown(content), encoding="utf-8")
    paths = [path, table]
    figure = draw_times(content)
    if figure is not None:
        paths += save_figure(figure, path)
    return paths

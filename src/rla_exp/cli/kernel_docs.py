"""`python scripts/kernel_docs.py`: the generated parts of docs/kernels.md, and its figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import UserError
from rla_exp.runs.files import expand_home, read_json

KEYS = {
    "docs": Key(expand_home, "a folder", "holds kernels.md and figures/; default docs"),
    "benchmarks": Key(expand_home, "a folder", "the limits of GPUs are in its files; default benchmarks"),
}

HELP = f"""Write what is computed in docs/kernels.md: bytes and operations of the kernels, their floors, the figures.

usage: python scripts/kernel_docs.py [key=value ...]

{describe_keys(KEYS)}"""


@dataclass(frozen=True, kw_only=True)
class DocsSettings:
    """The settings of the command; see KEYS."""

    docs: Path = Path("docs")
    benchmarks: Path = Path("benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: write_docs(DocsSettings(**read_key_values(arguments, KEYS))))


def write_docs(settings: DocsSettings) -> None:
    """Replace the generated parts in place.

    Raises:
        UserError: kernels.md or one of its marks is missing.
    """
    # imported here: they bring torch and matplotlib
    from rla_exp.bench.data_flow import draw_data_flow, draw_hopper
    from rla_exp.bench.documents import costs_table, floors, replace_part, storage_table

    file = settings.docs / "kernels.md"
    # reports of other measurements lie there too
    contents = [read_json(path) or {} for path in sorted(settings.benchmarks.glob("*.json"))]
    parts = {
        "costs": costs_table(),
        "storage": storage_table(),
        "floors": floors([content for content in contents if {"rows", "limits", "backend"} <= set(content)]),
    }
    try:
        text = file.read_text(encoding="utf-8")
        for name, part in parts.items():
            text = replace_part(text, name, part)
        file.write_text(text, encoding="utf-8")
        figures = {"kernels.png": draw_data_flow, "hopper.png": draw_hopper}
        folder = settings.docs / "figures"
        folder.mkdir(exist_ok=True)
        for name, draw in figures.items():
            draw().savefig(folder / name, metadata={"Software": None})
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from error
    print("written:", file, *(folder / name for name in figures), sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())

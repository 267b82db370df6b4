"""What `--help` and `--cfg job` print."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from rla_exp.config import Composed
from rla_exp.config.catalog import Catalog
from rla_exp.config.effects import without_effect
from rla_exp.config.keys import schema_keys

WIDTH = 120
COMMENT_COLUMN = 34

HELP = """\
Train a language model with one of the studied token mixers, or a sweep of them.

  {program} [GROUP=OPTION ...] [KEY=VALUE ...]      one run
  {program} --multirun model=rla,rdn seed=0,1,2     every combination, each run in a process of its own

A finished run is skipped, an interrupted one goes on; both are found in runs/ by their settings.

Examples
  {program} model=rdn ablation=no_clip data=mqar seed=1
  {program} model=rla data=stdlib_docs optim.lr=1e-3 trainer.max_steps=500
  {program} --multirun model=rla,rdn ablation=full,no_clip seed='range(3)'
  {program} --multirun model='glob(*)' seed=0
  {program} --cfg job model=rla ablation=value_state

Flags
  --multirun, -m        run every combination of comma-separated values
  --cfg, -c job         print all settings with their meaning and run nothing (hydra, all: Hydra's own too)
  --package, -p NAME    with --cfg: only this part, for example optim
  --help, -h            this text
  --info, -i [WHAT]     how the settings are composed: {info}
  --hydra-help          Hydra's own help
  --shell-completion, -sc install=bash
                        completion of groups and keys
  --version             version of rla_exp

Groups (each is a folder of conf/; * is the default)
{groups}
Keys: every setting that --cfg job shows can be written KEY=VALUE: seed=1, model.clip=null, trainer.threads=2.
A list is written [A,B], no value null. In a shell, quote what it would read itself: data.paths='[notes/*.txt]'.
"""


def help_text(program: str, catalog: Catalog, info: tuple[str, ...]) -> str:
    """The whole of `--help`."""
    return HELP.format(program=program, info=", ".join(info), groups=_groups(catalog))


def commented(composed: Composed, package: str | None = None) -> str:
    """A configuration as YAML, the meaning of every key beside it.

    Args:
        package: a part of it, `optim` or `optim.lr`; None: all.

    Raises:
        KeyError: there is no such part.
    """
    part: Any = composed.resolved
    for name in package.split(".") if package else ():
        if not isinstance(part, Mapping):
            raise KeyError(name)
        part = part[name]
    if not isinstance(part, Mapping):
        return _scalar(part) + "\n"
    docs = {name: key.doc for name, key in schema_keys().items()}
    docs |= dict.fromkeys(without_effect(composed.config), "(no effect here)")
    return "\n".join(_lines(part, docs, prefix=f"{package}." if package else "", indent="")) + "\n"


def _lines(section: Mapping[str, Any], docs: Mapping[str, str], prefix: str, indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in section.items():
        doc = docs.get(prefix + key, "")
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, docs, f"{prefix}{key}.", f"{indent}  ")]
        elif isinstance(value, list) and value:
            lines += [_beside(f"{indent}{key}:", doc), *(f"{indent}  - {_scalar(item)}" for item in value)]
        else:
            lines.append(_beside(f"{indent}{key}: {_scalar(value)}", doc))
    return lines


def _beside(line: str, doc: str) -> str:
    if not doc:
        return line
    start = max(COMMENT_COLUMN, len(line) + 2)
    first, *rest = textwrap.wrap(doc, max(WIDTH - start - 2, 40))
    # what does not fit stands below, in the same column
    return "\n".join([f"{line.ljust(start)}# {first}", *(f"{'':{start}}# {more}" for more in rest)])


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    assert isinstance(text, str)
    return text.removesuffix("\n").removesuffix("\n...")


def _groups(catalog: Catalog) -> str:
    lines: list[str] = []
    for group, options in catalog.options.items():
        if not options:
            continue
        lines.append(f"  {group}")
        width = max(len(option) for option in options) + 2
        for option in options:
            mark = "*" if option == catalog.defaults[group] else " "
            entry = f"  {mark} {option.ljust(width)}"
            sentence = catalog.summary(group, option).removesuffix(".")
            lines.append(entry + textwrap.shorten(sentence, WIDTH - len(entry), placeholder=" ..."))
    return "\n".join(lines) + "\n"

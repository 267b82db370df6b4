"""`python scripts/export.py run=RUN_DIR out=DIR` (installed as `rla-export`): a run's model for transformers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rla_exp.cli.key_values import Key, describe_keys, read_key_values
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError, UserError
from rla_exp.runs.files import expand_home

KEYS = {
    "run": Key(expand_home, "a run's folder", "which run"),
    "out": Key(expand_home, "a new or an empty folder", "where the model goes"),
    "checkpoint": Key(str, "a name in the run's checkpoints/, or a file", "default last"),
}
REQUIRED = ("run", "out")

HELP = f"""Write the model of a run as a folder that transformers loads.

usage: rla-export run=RUN_DIR out=DIR

{describe_keys(KEYS)}

In Python:
  import rla_exp.hf
  model = transformers.AutoModelForCausalLM.from_pretrained(DIR)"""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The settings of the command; see KEYS."""

    run: Path
    out: Path
    checkpoint: str = "last"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: export(_settings(arguments)))


def _settings(arguments: Sequence[str]) -> ExportSettings:
    values = read_key_values(arguments, KEYS)
    missing = [f"{name}: nothing sets it; write {name}=DIR" for name in REQUIRED if name not in values]
    if missing:
        raise ConfigError(missing)
    return ExportSettings(**values)


def export(settings: ExportSettings) -> None:
    """Write the model of `settings.run` into `settings.out`.

    Raises:
        UserError: no such run or checkpoint, a place that cannot be written, or transformers is not installed.
    """
    # torch is imported only now: a wrong name is answered at once
    from rla_exp.eval.restore import load_run

    try:
        from rla_exp.hf.export import export_model
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise UserError("an export needs transformers: pip install 'rla_exp[hf]'") from None
    loaded = load_run(settings.run, settings.checkpoint)
    config = loaded.config
    export_model(
        loaded.model,
        loaded.tokenizer,
        settings.out,
        train_length=loaded.train_length,
        provenance={
            "experiment": config.experiment,
            "ablation": config.ablation,
            "data": config.data.name,
            "seed": config.seed,
            "step": loaded.step,
            "checkpoint_sha256": loaded.checkpoint_sha256,
        },
    )
    print("written:", *(str(path) for path in sorted(settings.out.iterdir())), sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())

"""`python scripts/decoding_cost.py`: time and memory of a token after ever more tokens, as a figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.config import compose
from rla_exp.report.decoding_cost import write_decoding_costs
from rla_exp.report.write import check_writable
from rla_exp.runs import sources_hash
from rla_exp.runs.environment import device_name
from rla_exp.runs.files import expand_home

# of one layer and one head, so that every model reaches 100,000 tokens in a minute or two
SIZE = (
    "size=tiny",
    "model.num_layers=1",
    "model.num_heads=1",
    "model.head_dim_k=16",
    "model.head_dim_v=16",
)
VOCAB_SIZE = 257
"""Bytes and the end of a document."""

KEYS = {
    "models": Key(lambda text: tuple(text.split(",")), "names of conf/model", "which; default rdn,transformer"),
    "tokens": Key(whole_number, "a whole number", "how far; default 100000"),
    "results": Key(expand_home, "a folder", "the figure goes to <results>/generation/cpu; default results"),
}

HELP = f"""Measure time and memory of a token after ever more tokens, on one core of this CPU.

usage: python scripts/decoding_cost.py [key=value ...]

{describe_keys(KEYS)}"""


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """The settings of the command; see KEYS."""

    models: tuple[str, ...] = ("rdn", "transformer")
    tokens: int = 100_000
    results: Path = Path("results")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: measure_decoding(CostSettings(**read_key_values(arguments, KEYS))))


def measure_decoding(settings: CostSettings) -> None:
    """Measure every model, untrained, and write results/generation/cpu.

    Raises:
        UserError: there is no such model, or the results cannot be written.
    """
    configs = {name: compose([f"model={name}", *SIZE, "data=stdlib_docs"]).config.model for name in settings.models}
    folder = settings.results / "generation" / "cpu"
    check_writable(folder)

    import torch

    from rla_exp.generation.cost import decoding_costs
    from rla_exp.models import build_model

    lengths = _lengths(settings.tokens)
    window = min(1000, max(1, lengths[0] // 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    models: dict[str, list[dict[str, Any]]] = {}
    try:
        for name, config in configs.items():
            models[name] = []
            for cost in decoding_costs(build_model(config, VOCAB_SIZE, seed=0), lengths, window=window):
                models[name].append(asdict(cost))
                print(f"{name}: {cost.tokens} tokens, {cost.milliseconds:.2f} ms, {cost.cache_bytes} bytes")
    finally:
        torch.set_num_threads(threads)
    content = {
        "title": f"One layer, one head of 16, on one core of {device_name('cpu')}",
        "command": f"python scripts/decoding_cost.py models={','.join(models)} tokens={settings.tokens}",
        "overrides": list(SIZE),
        "window": window,
        "torch": torch.__version__,
        "sources": sources_hash(),
        "models": models,
    }
    write_decoding_costs(content, folder)
    print("written:", *(str(path) for path in sorted(folder.iterdir())), sep="\n  ")


def _lengths(tokens: int) -> list[int]:
    """Where to measure: close together at first, then every tenth."""
    shares = (0.005, 0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 11)))
    return sorted({max(2, round(share * tokens)) for share in shares})


if __name__ == "__main__":
    sys.exit(main())

"""`python scripts/generate.py run=RUN_DIR prompt="..."` (installed as `rla-generate`): let a trained model write."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rla_exp.cli.key_values import Key, describe_keys, read_key_values, whole_number
from rla_exp.cli.outcome import exit_code
from rla_exp.errors import ConfigError, DataError, UserError
from rla_exp.runs.files import expand_home

if TYPE_CHECKING:
    from rla_exp.generation import DecodingState, Sampling, TextGenerator


def _count_or_zero(text: str) -> int:
    return 0 if text == "0" else whole_number(text)


def _stop_strings(text: str) -> tuple[str, ...]:
    """One string as it is, or several as a JSON list."""
    if not text.startswith("["):
        return (text,)
    stops = json.loads(text)
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(text)
    return tuple(stops)


def _device(text: str) -> str:
    if text not in ("auto", "cpu", "cuda"):
        raise ValueError(text)
    return text


KEYS = {
    "run": Key(expand_home, "a run's folder", "the trained model; needed"),
    "checkpoint": Key(str, "a name in its checkpoints/ or a file", "which one; default last"),
    "prompt": Key(str, "any text", "what to go on from; default nothing, the beginning of a document"),
    "prompt_file": Key(expand_home, "a text file", "its whole text is the prompt, however long"),
    "prompts": Key(expand_home, "a text file, a prompt a line", "many prompts at once; answers are lines of JSON"),
    "max_new_tokens": Key(_count_or_zero, "a whole number", "tokens to write; default 128; 0 with save_state"),
    "temperature": Key(float, "0 or a positive number", "0 is greedy, always the likeliest token; default 0"),
    "top_k": Key(whole_number, "a whole number from 1 on", "draw from the k likeliest tokens"),
    "top_p": Key(float, "between 0 and 1", "draw from the likeliest tokens that together are so probable"),
    "repetition_penalty": Key(float, "a positive number", "above 1 against saying the same again; default 1"),
    "seed": Key(_count_or_zero, "a whole number", "of what is drawn; default 0"),
    "stop": Key(_stop_strings, 'a text, or a JSON list: ["\\n","Q:"]', "end where it comes"),
    "state": Key(expand_home, "a file of save_state", "go on from there; the prompt follows what was read"),
    "save_state": Key(expand_home, "a file", "keep what is known after the prompt, to go on from it again"),
    "device": Key(_device, "auto, cpu or cuda", "where to compute; default auto"),
}

HELP = f"""Let a trained model write. Text goes to stdout as it comes, notes to stderr.

usage: rla-generate run=RUN_DIR [prompt=TEXT] [key=value ...]

{describe_keys(KEYS)}"""


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """The settings of the command; see KEYS."""

    run: Path | None = None
    checkpoint: str = "last"
    prompt: str = ""
    prompt_file: Path | None = None
    prompts: Path | None = None
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    state: Path | None = None
    save_state: Path | None = None
    device: str = "auto"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help", "help"} & set(arguments):
        print(HELP)
        return 0
    return exit_code(lambda: generate(GenerateSettings(**read_key_values(arguments, KEYS))))


def generate(settings: GenerateSettings) -> None:
    """Write to stdout what the model makes of the prompts.

    Raises:
        UserError: a setting, the run or a file cannot be used as it is.
    """
    # torch is imported only now: a misspelt setting is answered at once
    from rla_exp.generation import load_state, save_state

    sampling = _checked(settings)
    prompts = None if settings.prompts is None else _read("prompts", settings.prompts).splitlines()
    prompt = settings.prompt if settings.prompt_file is None else _read("prompt_file", settings.prompt_file)
    generator = _load(settings)
    state = None if settings.state is None else load_state(settings.state, generator.model)
    if prompts is not None:
        _write_all(generator, prompts, settings, sampling, state)
        return
    if settings.save_state is not None:
        prompt, state = "", generator.read(prompt, state)
        save_state(state, settings.save_state, generator.model)
        print(f"{state.cache.length} tokens read, kept in {settings.save_state}", file=sys.stderr)
    if settings.max_new_tokens:
        _write_one(generator, prompt, settings, sampling, state)


def _checked(settings: GenerateSettings) -> Sampling:
    """How to sample; raises ConfigError with everything that is wrong."""
    problems = []
    if settings.run is None:
        problems.append("run is not set: write run=runs/default/rdn-full-stdlib_docs-1a2b3c4d/seed0 or the like")
    given = [name for name in ("prompt", "prompt_file", "prompts") if getattr(settings, name)]
    if len(given) > 1:
        problems.append(f"{' and '.join(given)}: only one of them can be set")
    if settings.prompts is not None and settings.save_state is not None:
        problems.append("save_state: keeps the state of one prompt; leave it or prompts out")
    if settings.max_new_tokens == 0 and settings.save_state is None:
        problems.append("max_new_tokens=0: does nothing without save_state")
    if settings.seed is not None and settings.temperature == 0:
        problems.append(f"seed={settings.seed}: has no effect with temperature=0, which is greedy; set temperature too")
    from rla_exp.generation import Sampling

    try:
        sampling = Sampling(
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            repetition_penalty=settings.repetition_penalty,
            seed=settings.seed or 0,
        )
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return sampling


def _read(key: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}={file}: cannot read it: {error}") from error


def _load(settings: GenerateSettings) -> TextGenerator:
    import torch

    from rla_exp.eval import load_run
    from rla_exp.generation import TextGenerator

    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise UserError("device=cuda: PyTorch sees no CUDA GPU here; use device=cpu")
    device = "cuda" if has_gpu and settings.device != "cpu" else "cpu"
    assert settings.run is not None
    run = load_run(settings.run, settings.checkpoint, device=device)
    if run.tokenizer is None:
        raise UserError(
            f"run={settings.run}: was trained on MQAR, which is no text; name a run that was trained on text"
        )
    return TextGenerator(run.model, run.tokenizer, trained_length=run.train_length)


def _write_one(
    generator: TextGenerator, prompt: str, settings: GenerateSettings, sampling: Sampling, state: DecodingState | None
) -> None:
    started = time.perf_counter()
    for piece in generator.stream(
        [prompt], max_new_tokens=settings.max_new_tokens, sampling=sampling, stop=settings.stop, after=state
    ):
        print(piece.text, end="", flush=True)
        if piece.finish_reason is not None:
            print(flush=True)
            rate = piece.num_tokens / (time.perf_counter() - started)
            reason = {"length": "max_new_tokens", "end": "end of the document", "stop": "stop string"}
            print(
                f"{piece.num_tokens} tokens, {rate:.0f} a second; {reason[piece.finish_reason]} reached",
                file=sys.stderr,
            )


def _write_all(
    generator: TextGenerator,
    prompts: Sequence[str],
    settings: GenerateSettings,
    sampling: Sampling,
    state: DecodingState | None,
) -> None:
    completions = generator.generate(
        prompts, max_new_tokens=settings.max_new_tokens, sampling=sampling, stop=settings.stop, after=state
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        answer = {"prompt": prompt, "text": completion.text, "finish_reason": completion.finish_reason}
        print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())

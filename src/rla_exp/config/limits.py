"""Which settings contradict each other: sizes that do not divide, steps that never come, parts that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rla_exp.config.schema import ModelConfig, MqarConfig, RunConfig, TextConfig, TrainerConfig
from rla_exp.config.suites import suite_kinds
from rla_exp.config.typed import Problem
from rla_exp.config.wording import closest, did_you_mean, show

WITH_RESIDUAL = ("rla", "rdn")


def contradictions(config: RunConfig, ablation_settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Every combination that cannot be run, or would not be what its name says.

    Args:
        ablation_settings: what the chosen ablation fixes, key of `model` -> value.
    """
    yield from _ablation(config, ablation_settings)
    yield from _mixer(config.model)
    yield from _residual(config.model)
    if isinstance(config.data, MqarConfig):
        yield from _mqar(config.data)
    else:
        yield from _text(config.data)
    yield from _vocabulary(config)
    yield from _steps(config)
    yield from _evaluation(config)
    yield from _device(config)


def ablation_fits(config: RunConfig) -> bool:
    """Ablations take something out of rla or rdn; full takes nothing out of any model."""
    return config.ablation == "full" or config.model.name in WITH_RESIDUAL


def _ablation(config: RunConfig, fixed: Mapping[str, Any]) -> Iterator[Problem]:
    name, model = config.ablation, config.model.name
    if not ablation_fits(config):
        yield Problem(
            ("ablation", "model.name"),
            f"ablation={name}: changes rla and rdn only, not model={model}; leave it out, or choose model=rla or rdn",
        )
        return
    for key, value in fixed.items():
        actual = getattr(config.model, key)
        if actual != value:
            yield Problem(
                (f"model.{key}", "ablation"),
                f"model.{key}={show(actual)}: contradicts ablation={name}, which sets {show(value)}; "
                "use ablation=full to set it by hand",
            )


def _mixer(model: ModelConfig) -> Iterator[Problem]:
    if model.mixer == "attention":
        if model.head_dim_v != model.head_dim_k:
            yield Problem(
                ("model.head_dim_v", "model.head_dim_k", "model.mixer"),
                f"model.head_dim_v={model.head_dim_v}: attention needs it equal to model.head_dim_k={model.head_dim_k}",
            )
        if model.num_kv_heads is not None and model.num_heads % model.num_kv_heads:
            yield Problem(
                ("model.num_kv_heads", "model.num_heads", "model.mixer"),
                f"model.num_kv_heads={model.num_kv_heads}: must divide model.num_heads={model.num_heads}",
            )
    if (model.mixer == "attention" or model.rotary) and model.head_dim_k % 2:
        yield Problem(
            ("model.head_dim_k", "model.mixer", "model.rotary"),
            f"model.head_dim_k={model.head_dim_k}: must be even, for rotary positions turn pairs of entries",
        )
    if model.write == "dt":
        for key, needed in (("decay", "learned"), ("rule", "additive"), ("residual", "off")):
            if getattr(model, key) != needed:
                yield Problem(
                    (f"model.{key}", "model.write"),
                    f"model.{key}={getattr(model, key)}: model.write=dt (Mamba-2's form) needs {needed}",
                )


def _residual(model: ModelConfig) -> Iterator[Problem]:
    if model.residual == "off":
        return
    if model.gamma == "none":
        yield Problem(
            ("model.gamma", "model.residual"),
            f"model.gamma=none: model.residual={model.residual} needs a correction factor: dedicated, tied or one",
        )
    if model.gamma == "tied" and model.write != "beta":
        yield Problem(
            ("model.gamma", "model.write", "model.residual"),
            f"model.gamma=tied: is beta's value, and there is no beta with model.write={model.write}",
        )


def _mqar(data: MqarConfig) -> Iterator[Problem]:
    for split in ("train", "valid", "test"):
        for index, segment in enumerate(getattr(data, split)):
            name = f"data.{split}.{index}"
            least = 2 * (segment.writes + 1)
            if segment.length % 2 or segment.length < least * segment.num_pairs:
                yield Problem(
                    (f"{name}.length", f"data.{split}"),
                    f"{name}.length={segment.length}: must be even and at least {least} times "
                    f"num_pairs={segment.num_pairs}",
                )
            if 4 * segment.num_pairs >= data.vocab_size:
                yield Problem(
                    (f"{name}.num_pairs", f"data.{split}", "data.vocab_size"),
                    f"{name}.num_pairs={segment.num_pairs}: must be less than a quarter of "
                    f"data.vocab_size={data.vocab_size}",
                )
    lengths = sorted({segment.length for segment in data.train})
    if data.order == "mixed" and len(lengths) > 1:
        yield Problem(
            ("data.order", "data.train"),
            f"data.order=mixed: needs training segments of one length, not {show(lengths)}; use shuffled or sequential",
        )


def _text(data: TextConfig) -> Iterator[Problem]:
    if not data.test_paths and data.valid_fraction + data.test_fraction >= 1:
        yield Problem(
            ("data.valid_fraction", "data.test_fraction"),
            f"data.valid_fraction={data.valid_fraction}: with data.test_fraction={data.test_fraction} "
            "nothing is left to train on",
        )
    if data.source == "files" and not data.paths:
        yield Problem(
            ("data.paths", "data.source"), "data.paths: no files are named; write for example data.paths='[my/*.txt]'"
        )
    if len(set(data.test_lengths)) < len(data.test_lengths) or any(x <= data.seq_len for x in data.test_lengths):
        yield Problem(
            ("data.test_lengths", "data.seq_len"),
            f"data.test_lengths={show(data.test_lengths)}: must be distinct and above data.seq_len={data.seq_len}",
        )
    if data.source == "hub" and data.hub_name is None:
        yield Problem(("data.hub_name", "data.source"), "data.hub_name: data.source=hub needs the data set's name")
    if data.source == "hub" and data.streaming and data.max_bytes is None:
        yield Problem(
            ("data.streaming", "data.max_bytes", "data.source"),
            "data.streaming=true: needs data.max_bytes, the bytes of text to read before it stops",
        )


def _vocabulary(config: RunConfig) -> Iterator[Problem]:
    size = config.model.vocab_size
    needed = config.data.vocab_size if isinstance(config.data, MqarConfig) else 256
    by_bytes = isinstance(config.data, TextConfig) and config.data.tokenizer == "bytes"
    if size is not None and size < needed and (by_bytes or isinstance(config.data, MqarConfig)):
        yield Problem(
            ("model.vocab_size", "data.vocab_size", "data.tokenizer"),
            f"model.vocab_size={size}: the data has {needed} tokens; leave it null to take what the data needs",
        )


def _steps(config: RunConfig) -> Iterator[Problem]:
    trainer = config.trainer
    if config.optim.warmup_steps > trainer.max_steps:
        yield Problem(
            ("optim.warmup_steps", "trainer.max_steps"),
            f"optim.warmup_steps={config.optim.warmup_steps}: more than trainer.max_steps={trainer.max_steps}; "
            "make it smaller, or 0",
        )
    trainer_keys = ("validate_every", "diagnostics_every", "checkpoint_every")
    intervals = {f"trainer.{key}": getattr(trainer, key) for key in trainer_keys}
    for name, every in {**intervals, "evaluation.every": config.evaluation.every}.items():
        if every is not None and every > trainer.max_steps:
            yield Problem(
                (name, "trainer.max_steps"),
                f"{name}={every}: never comes within trainer.max_steps={trainer.max_steps}; make it smaller, or null",
            )


def _evaluation(config: RunConfig) -> Iterator[Problem]:
    settings = config.evaluation
    if settings.suite is None:
        for key in ("every", "limit", "data_dir"):
            value = getattr(settings, key)
            if value is not None:
                yield Problem(
                    (f"evaluation.{key}", "evaluation.suite"),
                    f"evaluation.{key}={show(value)}: has no effect with evaluation.suite=null; "
                    "name a suite, for example evaluation.suite=smoke",
                )
        return
    kinds = suite_kinds()
    kind = kinds.get(settings.suite)
    if kind is None:
        yield Problem(
            ("evaluation.suite",),
            f"evaluation.suite={settings.suite}: must be one of {', '.join(kinds)} or null"
            f"{did_you_mean(closest(settings.suite, list(kinds)))}",
        )
    elif (kind == "mqar") != isinstance(config.data, MqarConfig):
        data = "text" if isinstance(config.data, TextConfig) else "MQAR"
        yield Problem(
            ("evaluation.suite", "data.kind"),
            f"evaluation.suite={settings.suite}: asks for {'MQAR' if kind == 'mqar' else 'text'}, and this run is "
            f"trained on {data}; use one of "
            f"{', '.join(name for name, other in kinds.items() if (other == 'mqar') == (data == 'MQAR'))}",
        )
    elif kind != "lm_eval" and settings.data_dir is not None:
        yield Problem(
            ("evaluation.data_dir", "evaluation.suite"),
            f"evaluation.data_dir={settings.data_dir}: has no effect with evaluation.suite={settings.suite}, "
            "whose documents are generated",
        )


def _device(config: RunConfig) -> Iterator[Problem]:
    trainer: TrainerConfig = config.trainer
    if trainer.accelerator != "cpu":
        return
    if trainer.precision == "16-mixed":
        yield Problem(
            ("trainer.precision", "trainer.accelerator"),
            "trainer.precision=16-mixed: needs a GPU; on the CPU use 32 or bf16-mixed",
        )
    if config.model.backend == "triton":
        yield Problem(
            ("model.backend", "trainer.accelerator"),
            "model.backend=triton: needs a GPU; with trainer.accelerator=cpu use auto, chunked or recurrent",
        )

"""One training, validation and test with Lightning's Trainer."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer

from rla_exp.config import Composed
from rla_exp.config.schema import RunConfig
from rla_exp.data import CorpusFingerprint, build_data
from rla_exp.data.text import TextData
from rla_exp.data.tokenizer import Tokenizer
from rla_exp.kernels import tuned_tiles
from rla_exp.lit.callbacks import Diagnostics, Evaluation, Measure, Progress, SelfChecks, StepEnd
from rla_exp.lit.checkpoint import PREVIOUS, AtomicCheckpointIO, newest_checkpoint, remove_unfinished
from rla_exp.lit.datamodule import longest_sequence, make_datamodule
from rla_exp.lit.device import DeviceType, compute_settings
from rla_exp.lit.live_status import LiveStatus
from rla_exp.lit.logger import Recorder, wandb_mirror
from rla_exp.lit.module import LanguageModule
from rla_exp.lit.quiet import quiet_lightning
from rla_exp.lit.random_state import RandomState, seed_all
from rla_exp.lit.stopping import StopRequest
from rla_exp.lit.timing import Timing
from rla_exp.models import build_model
from rla_exp.runs import Result, RunFolder, cache_dir, git_commit, run_name
from rla_exp.runs.environment import device_name

logger = logging.getLogger(__name__)


def fit(
    composed: Composed,
    folder: RunFolder,
    status: LiveStatus,
    stop: StopRequest,
    *,
    device: DeviceType,
    identity: str,
) -> Result:
    """Train from the newest checkpoint in the folder, or from the start, then validate and test.

    Raises:
        DataError, ConfigError: the data or the model cannot be as configured.
        RunError: a checkpoint cannot be read or written.
        NonFiniteError: a loss or gradient is not finite.
        InterruptedRun: a signal came; a checkpoint is written.
    """
    config = composed.config
    timing = Timing(device)
    with compute_settings(config.trainer), quiet_lightning():
        seed_all(config.seed)
        show = config.trainer.progress and sys.stderr.isatty()
        data = build_data(config.data, seed=config.seed, cache_dir=cache_dir(config.paths), progress=show)
        tokenizer = data.tokenizer if isinstance(data, TextData) else None
        if tokenizer is not None:
            # a run can be evaluated from its folder alone
            tokenizer.save(folder.tokenizer)
        model = build_model(config.model, data.vocab_size, config.seed)
        module = LanguageModule(model, config)
        remove_unfinished(folder.checkpoints)
        checkpoint = newest_checkpoint(folder.checkpoints, module)
        step = 0 if checkpoint is None else checkpoint.step
        logger.info("starting from step %d of %d", step, config.trainer.max_steps)
        folder.drop_metrics_after(step)
        sources = folder.write_environment(composed.overrides, device, resumes=checkpoint is not None)
        status.step = status.first_step = step
        status.write("running")
        with wandb_mirror(config, folder, composed.resolved) as mirror:
            recorder = Recorder(folder, mirror)
            callbacks = make_callbacks(config, folder, recorder, status, timing, stop, device, tokenizer)
            trainer = make_trainer(config, folder, device, callbacks)
            datamodule = make_datamodule(config, data)
            path = None if checkpoint is None else str(checkpoint.path)
            trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
            trainer.test(module, datamodule=datamodule, verbose=False)
            metrics = {
                **module.held_out,
                "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
                "state_bytes": float(model.state_bytes(longest_sequence(config.data))),
            }
            if mirror is not None:
                mirror.summarize(metrics)
    (folder.checkpoints / PREVIOUS).unlink(missing_ok=True)
    provenance = make_provenance(config, data.fingerprint, sources, device, identity)
    return Result(metrics, timing.summary(), provenance)


def make_trainer(
    config: RunConfig,
    folder: RunFolder,
    device: DeviceType,
    callbacks: Sequence[Callback],
) -> Trainer:
    """Lightning's Trainer with what this package does itself switched off."""
    settings = config.trainer
    return Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=settings.precision,
        max_steps=settings.max_steps,
        # optimizer steps here, batches there
        val_check_interval=(settings.validate_every or settings.max_steps) * settings.accumulate,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=config.optim.grad_clip,
        num_sanity_val_steps=0,
        logger=False,
        log_every_n_steps=settings.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
        default_root_dir=folder.path,
        callbacks=list(callbacks),
        # one process, whatever a cluster's environment says
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
    )


def make_callbacks(
    config: RunConfig,
    folder: RunFolder,
    recorder: Recorder,
    status: LiveStatus,
    timing: Timing,
    stop: StopRequest,
    device: DeviceType,
    tokenizer: Tokenizer | None,
) -> list[Callback]:
    """In the order in which they act; the step ends last."""
    callbacks: list[Callback] = [RandomState(device), Measure(recorder, status, timing, config.trainer.log_every)]
    callbacks.append(SelfChecks(folder))
    if config.trainer.diagnostics_every is not None:
        callbacks.append(Diagnostics(recorder, config.trainer.diagnostics_every))
    if config.evaluation.suite is not None:
        callbacks.append(Evaluation(recorder, config, tokenizer))
    if config.trainer.progress:
        callbacks.append(Progress(f"{run_name(config)} seed {config.seed}", timing))
    callbacks.append(StepEnd(folder.checkpoints, config.trainer, recorder, stop))
    return callbacks


def make_provenance(
    config: RunConfig, corpus: CorpusFingerprint | None, sources: Sequence[str], device: DeviceType, identity: str
) -> dict[str, Any]:
    """What the numbers come from. A run that went on with other sources has a hash of its own, that of them all."""
    commit = git_commit()
    joined = hashlib.sha256("+".join(sources).encode()).hexdigest()
    return {
        "sources": sources[0] if len(sources) == 1 else joined,
        "sources_of_parts": list(sources),
        "git": None if commit is None else {"commit": commit[0], "dirty": commit[1]},
        "corpus_sha256": None if corpus is None else corpus.sha256,
        "corpus_bytes": None if corpus is None else corpus.num_bytes,
        "corpus_python": None if corpus is None else corpus.python_version,
        "device_type": device,
        "device": device_name(device),
        "autotuned": bool(tuned_tiles()),
        "threads": config.trainer.threads,
        "torch": torch.__version__,
        "identity": identity,
    }

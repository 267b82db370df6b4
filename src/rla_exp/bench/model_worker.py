"""The process that trains one model for a few steps: cases come as JSON on stdin, answers go as lines to stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from rla_exp.bench.models import VOCAB_SIZE
from rla_exp.bench.timing import summarize
from rla_exp.config import compose
from rla_exp.config.schema import RunConfig
from rla_exp.models import LanguageModel, build_model
from rla_exp.models.block import run_block
from rla_exp.report.cost import flops_per_token

WARM_UP = 3


def measure_step(case: dict[str, Any], steps: int, device: torch.device) -> dict[str, float | None]:
    """Steps of a case: forward, backward, clipping and AdamW on random tokens, as training does them.

    Returns:
        ms with ms_p20 and ms_p80, peak_mib (None on a CPU), parameters and flop_per_token.
    """
    words = [f"model={case['model']}", f"size={case['size']}"]
    # any text will do: the model is all that is taken of it
    config = compose([*words, "data=stdlib_docs", f"data.seq_len={case['T']}"]).config
    vocab_size = config.model.vocab_size or VOCAB_SIZE
    torch.manual_seed(0)
    with device:
        model = build_model(config.model, vocab_size, 0)
    model.to(device)
    tokens = torch.randint(vocab_size, (case["B"], case["T"] + 1), device=device)
    step = _make_step(model, tokens, config, case, device)
    for _ in range(WARM_UP):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(steps):
        _synchronize(device)
        start = time.perf_counter()
        step()
        _synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    timing = summarize(times, None)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    looked_up = 0 if config.model.tie_embeddings else model.embedding.weight.numel()
    return {
        "ms": timing.ms,
        "ms_p20": timing.ms_p20,
        "ms_p80": timing.ms_p80,
        "peak_mib": peak,
        "parameters": float(parameters),
        "flop_per_token": flops_per_token(config, parameters - looked_up),
    }


def _make_step(
    model: LanguageModel, tokens: torch.Tensor, config: RunConfig, case: dict[str, Any], device: torch.device
) -> Callable[[], None]:
    """One optimizer step on tokens [B, T + 1]."""
    optim = config.optim
    optimizer = torch.optim.AdamW(model.parameter_groups(optim.weight_decay), lr=optim.lr, fused=True)
    parameters = list(model.parameters())
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].flatten()

    def mean_loss(hidden: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model.head(hidden.flatten(0, 1)).float(), labels)

    run, loss_of = (torch.compile(run_block), torch.compile(mean_loss)) if case["compile"] else (run_block, mean_loss)

    def step() -> None:
        cast = torch.autocast(device.type, torch.bfloat16) if case["precision"] == "bf16-mixed" else nullcontext()
        with cast:
            loss = loss_of(model.hidden(inputs, run=run))
        # outside of the cast, as Lightning has it
        loss.backward()  # type: ignore[no-untyped-call]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        clip_grads_with_norm_(parameters, 1.0, norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Answer every case in turn; what fails answers with its reason, and the next one is tried."""
    # others print to stdout
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    device = torch.device(request["device"])
    if device.type == "cpu":
        torch.set_num_threads(1)
    for case in request["cases"]:
        try:
            reply: dict[str, Any] = dict(measure_step(case, request["steps"], device))
        # too little memory, above all: that is a result
        except Exception as error:
            words = str(error).strip() or "without a message"
            reply = {"failure": f"{type(error).__name__}: {words.splitlines()[0]}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

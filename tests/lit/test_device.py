"""Devices, threads, determinism, random numbers."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from rla_exp.config.schema import TrainerConfig
from rla_exp.errors import ConfigError
from rla_exp.lit.device import choose_device, compute_settings
from rla_exp.lit.random_state import random_state, restore_random_state, seed_all


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert choose_device(TrainerConfig(max_steps=1)) == expected
        assert choose_device(TrainerConfig(max_steps=1, accelerator="cpu")) == "cpu"


def test_every_problem_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(TrainerConfig(max_steps=1, accelerator="cpu", precision="16-mixed", devices=2))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "trainer.precision=16-mixed",
        "trainer.devices=2",
    ]


def test_settings_hold_inside_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads = torch.get_num_threads()
    with compute_settings(TrainerConfig(max_steps=1, threads=threads + 2)):
        assert torch.get_num_threads() == threads + 2
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    with compute_settings(TrainerConfig(max_steps=1, deterministic=False)):
        assert not torch.are_deterministic_algorithms_enabled()


def test_random_state_goes_on_after_a_checkpoint(tmp_path: object) -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.random(), float(np.random.normal()), torch.rand(()).item(), random.gauss(0, 1)

    seed_all(0)
    draw()
    state = random_state("cpu")
    file = f"{tmp_path}/state"
    torch.save(state, file)
    expected = [draw() for _ in range(3)]
    seed_all(1)
    assert draw() != expected[0]
    restore_random_state(torch.load(file, weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_seeds_differ_and_repeat() -> None:
    numbers = []
    for seed in (0, 1, 0, 2**33):
        seed_all(seed)
        numbers.append((random.random(), np.random.random(), torch.rand(()).item()))
    assert numbers[0] == numbers[2]
    assert numbers[0] != numbers[1]

"""Runs that compute the same numbers share an identity; all others differ."""

import copy
import string

import pytest

from rla_exp.config import compose, hash8, identity


def of(*overrides: str, corpus: str | None = None, device: str = "cpu", threads: int = 1) -> str:
    return identity(compose(overrides).resolved, corpus_sha256=corpus, device_type=device, threads=threads)


def test_an_identity_is_64_hex_digits():
    full = of()
    assert len(full) == 64
    assert set(full) <= set(string.hexdigits.lower())
    assert hash8(full) == full[:8]


def test_the_definition_does_not_drift():
    # finished runs are found by this hash: a change here makes every stored run a stranger
    resolved = {
        "model": {"name": "rla", "clip": None},
        "data": {"kind": "mqar"},
        "optim": {"lr": 0.001},
        "trainer": {"max_steps": 2, "accelerator": "auto", "threads": 1, "progress": True, "checkpoint_every": None},
        "logger": {},
        "paths": {},
        "evaluation": {},
        "seed": 0,
        "ablation": "full",
        "experiment": "default",
        "retry_failed": False,
    }
    assert identity(resolved, corpus_sha256=None, device_type="cpu", threads=1) == (
        "d8b3eb7faed89bea14a5c95aa156e2a4175945f4fcb20ae7f21fac538f2ef739"
    )


@pytest.mark.parametrize(
    "override",
    [
        "seed=5",
        "paths.runs=elsewhere",
        "paths.cache=there",
        "logger=wandb",
        "evaluation.suite=mqar",
        "retry_failed=true",
        "trainer.progress=false",
        "trainer.threads=4",
        "trainer.accelerator=auto",
        "trainer.checkpoint_every=1",
    ],
)
def test_what_changes_no_number_changes_no_identity(override):
    assert of(override) == of()


@pytest.mark.parametrize(
    "override",
    [
        "model=rla",
        "size=small",
        "ablation=no_clip",
        "data=mqar_zoology",
        "model.clip=0.5",
        "optim.lr=0.123",
        "trainer.max_steps=77",
        "trainer.precision=bf16-mixed",
        "trainer.deterministic=false",
        "trainer.diagnostics_every=1",
        "data.batch_size=3",
    ],
)
def test_what_changes_numbers_changes_the_identity(override):
    assert of(override) != of()


def test_corpus_device_and_effective_threads_count():
    assert len({of(), of(corpus="ab"), of(device="cuda"), of(threads=2)}) == 4


def test_the_order_of_keys_does_not_count():
    resolved = compose([]).resolved
    turned = {key: resolved[key] for key in reversed(resolved)}
    turned["model"] = {key: turned["model"][key] for key in reversed(turned["model"])}
    before = copy.deepcopy(turned)
    assert identity(turned, corpus_sha256=None, device_type="cpu", threads=1) == of()
    assert turned == before

"""Settings that contradict each other are refused with both sides named."""

import pytest

from rla_exp.config import compose

HUB = "data=files data.source=hub"


@pytest.mark.parametrize(
    ("typed", "setting", "why"),
    [
        (
            "ablation=no_clip model.clip=2",
            "model.clip=2.0",
            "contradicts ablation=no_clip, which sets null; use ablation=full to set it by hand",
        ),
        (
            "model=mamba2 ablation=no_norm",
            "ablation=no_norm",
            "changes rla and rdn only, not model=mamba2; leave it out, or choose model=rla or rdn",
        ),
        (
            "model.gamma=none",
            "model.gamma=none",
            "model.residual=fit needs a correction factor: dedicated, tied or one",
        ),
        (
            "model.gamma=tied model.write=one",
            "model.gamma=tied",
            "is beta's value, and there is no beta with model.write=one",
        ),
        (
            "model=transformer model.head_dim_v=64",
            "model.head_dim_v=64",
            "attention needs it equal to model.head_dim_k=32",
        ),
        ("model=transformer model.num_kv_heads=3", "model.num_kv_heads=3", "must divide model.num_heads=4"),
        (
            "model=retnet model.head_dim_k=7",
            "model.head_dim_k=7",
            "must be even, for rotary positions turn pairs of entries",
        ),
        ("model=mamba2 model.decay=none", "model.decay=none", "model.write=dt (Mamba-2's form) needs learned"),
        ("data.valid.0.length=63", "data.valid.0.length=63", "must be even and at least 4 times num_pairs=4"),
        ("data.test.2.length=60", "data.test.2.length=60", "must be even and at least 4 times num_pairs=16"),
        ("data.test.0.writes=9", "data.test.0.length=64", "must be even and at least 20 times num_pairs=4"),
        (
            "data.test.1.num_pairs=17 data.test.1.length=256",
            "data.test.1.num_pairs=17",
            "must be less than a quarter of data.vocab_size=66",
        ),
        (
            "data.train.0.length=32",
            "data.order=mixed",
            "needs training segments of one length, not [32,64]; use shuffled or sequential",
        ),
        (
            "data=stdlib_docs data.valid_fraction=0.6 data.test_fraction=0.4",
            "data.valid_fraction=0.6",
            "with data.test_fraction=0.4 nothing is left to train on",
        ),
        ("data=files", "data.paths", "no files are named; write for example data.paths='[my/*.txt]'"),
        (HUB, "data.hub_name", "data.source=hub needs the data set's name"),
        (
            f"{HUB} data.hub_name=a/b data.streaming=true",
            "data.streaming=true",
            "needs data.max_bytes, the bytes of text to read before it stops",
        ),
        (
            "model.vocab_size=65",
            "model.vocab_size=65",
            "the data has 66 tokens; leave it null to take what the data needs",
        ),
        (
            "data=stdlib_docs model.vocab_size=255",
            "model.vocab_size=255",
            "the data has 256 tokens; leave it null to take what the data needs",
        ),
        (
            "trainer.max_steps=90 trainer.validate_every=91 optim.warmup_steps=0",
            "trainer.validate_every=91",
            "never comes within trainer.max_steps=90; make it smaller, or null",
        ),
        (
            "trainer.max_steps=90 optim.warmup_steps=91 trainer.validate_every=null",
            "optim.warmup_steps=91",
            "more than trainer.max_steps=90; make it smaller, or 0",
        ),
        (
            "trainer.accelerator=cpu trainer.precision=16-mixed",
            "trainer.precision=16-mixed",
            "needs a GPU; on the CPU use 32 or bf16-mixed",
        ),
        (
            "trainer.accelerator=cpu model.backend=triton",
            "model.backend=triton",
            "needs a GPU; with trainer.accelerator=cpu use auto, chunked or recurrent",
        ),
        (
            "evaluation.every=5",
            "evaluation.every=5",
            "has no effect with evaluation.suite=null; name a suite, for example evaluation.suite=smoke",
        ),
        (
            "data=stdlib_docs evaluation.suite=smok",
            "evaluation.suite=smok",
            "must be one of language, mqar, niah, niah_short, recall, recall_in_context, smoke or null; did you mean "
            "smoke?",
        ),
        (
            "data=mqar evaluation.suite=smoke",
            "evaluation.suite=smoke",
            "asks for text, and this run is trained on MQAR; use one of mqar",
        ),
        (
            "data=stdlib_docs evaluation.suite=niah evaluation.data_dir=there",
            "evaluation.data_dir=there",
            "has no effect with evaluation.suite=niah, whose documents are generated",
        ),
        (
            "evaluation.suite=mqar evaluation.every=91 trainer.max_steps=90 optim.warmup_steps=0",
            "evaluation.every=91",
            "never comes within trainer.max_steps=90; make it smaller, or null",
        ),
    ],
)
def test_a_contradiction_is_refused(problems, typed, setting, why):
    assert problems(*typed.split()) == [f"{setting}: {why}"]


def test_what_an_ablation_sets_may_be_repeated():
    assert compose(["ablation=no_clip", "model.clip=null"]).config.model.clip is None

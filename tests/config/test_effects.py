"""A setting without effect is refused, whatever its value."""

import pytest

FITS = "model=rla or model=rdn"
ON = "model.residual=fit or model.residual=value"
OFF = "ablation=no_residual"
VALUE = "ablation=value_state"
TEXT = "data=stdlib_docs"


@pytest.mark.parametrize(
    ("chosen", "override", "now", "needed"),
    [
        (OFF, "model.clip=1.0", "model.residual=off", "model.residual=fit"),
        (OFF, "model.decayed_prediction=false", "model.residual=off", "model.residual=fit"),
        (OFF, "model.gamma=none", "model.residual=off", ON),
        (OFF, "model.output=gated", "model.residual=off", ON),
        (VALUE, "model.clip=0.5", "model.residual=value", "model.residual=fit"),
        (VALUE, "model.decayed_prediction=false", "model.residual=value", "model.residual=fit"),
        (
            "model.decay=none",
            "model.decayed_prediction=true",
            "model.decay=none",
            "model.decay=learned or model.decay=fixed",
        ),
        ("model=gated_delta_net", "model.gamma=tied", "model=gated_delta_net", FITS),
        ("model=linear_attention", "model.output=sum", "model=linear_attention", FITS),
        ("model=delta_net", "model.residual=off", "model=delta_net", FITS),
        ("model=transformer", "model.clip=null", "model=transformer", FITS),
        ("model=transformer", "model.conv_size=4", "model=transformer", "a model with linear mixers"),
        ("model=transformer", "model.rule=delta", "model=transformer", "a model with linear mixers"),
        ("model=rla", "model.num_kv_heads=1", "model=rla", "a model with attention mixers"),
        (
            "model=rla",
            "model.rope_base=100.0",
            "model=rla and model.rotary=false",
            "a model with attention mixers or model.rotary=true",
        ),
        ("data=mqar", "data.seq_len=8", "this data", "data of kind text"),
        (TEXT, "data.power_a=0.1", "this data", "data of kind mqar"),
        (TEXT, "data.bpe_vocab_size=4096", "data.tokenizer=bytes", "data.tokenizer=bpe"),
        (TEXT, "data.paths=[a.txt]", "data.source=stdlib_docs", "data.source=files"),
        (TEXT, "data.text_key=text", "data.source=stdlib_docs", "data.source=files or data.source=hub"),
        (TEXT, "data.hub_name=a/b", "data.source=stdlib_docs", "data.source=hub"),
        (TEXT, "data.streaming=false", "data.source=stdlib_docs", "data.source=hub"),
        ("logger=offline", "logger.project=x", "logger.kind=offline", "logger.kind=wandb"),
        ("logger=offline", "logger.tags=[a,b]", "logger.kind=offline", "logger.kind=wandb"),
    ],
)
def test_a_setting_without_effect_is_refused(problems, chosen, override, now, needed):
    assert problems(chosen, override) == [f"{override}: has no effect with {now}; it needs {needed}"]


def test_a_key_is_reported_once(problems):
    # decayed_prediction fails two rules: the first one says it
    assert problems(VALUE, "model.decay=none", "model.decayed_prediction=true") == [
        "model.decayed_prediction=true: has no effect with model.residual=value; it needs model.residual=fit"
    ]

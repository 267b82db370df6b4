"""Every wrong name is found, each with the spelling that was probably meant."""

import pytest

from rla_exp.config import compose, compose_sweep
from rla_exp.config.overrides import for_hydra
from rla_exp.errors import ConfigError

MODELS = "delta_net, gated_delta_net, linear_attention, mamba2, rdn, retnet, rla, transformer"


def test_every_problem_is_named_at_once(problems):
    assert problems("modle=rdn", "model=rnd", "model.clpi=1", "optim.lr=abc", "rdn", "seed=-1") == [
        "modle=rdn: there is no setting modle; did you mean model=rdn?",
        f"model=rnd: no such option; allowed: {MODELS}; did you mean rdn?",
        "model.clpi=1: there is no setting model.clpi; did you mean model.clip?",
        "rdn: settings are written KEY=VALUE; did you mean model=rdn?",
        "optim.lr=abc: must be a valid number",
        "seed=-1: must be greater than or equal to 0",
    ]


def test_the_message_counts_and_lists():
    with pytest.raises(ConfigError) as caught:
        compose(["lr=1", "optim.lr=0"])
    assert str(caught.value) == (
        "2 problems with the configuration:\n"
        "  - lr=1: there is no setting lr; did you mean optim.lr?\n"
        "  - optim.lr=0: must be greater than 0"
    )


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("backbone=rdn", "backbone=rdn: there is no setting backbone; did you mean model=rdn?"),
        ("clip=2", "clip=2: there is no setting clip; did you mean model.clip?"),
        ("qqqq=1", "qqqq=1: there is no setting qqqq"),
        ("model=tiny", f"model=tiny: no such option; allowed: {MODELS}; did you mean size=tiny?"),
        ("model=null", f"model=null: no such option; allowed: {MODELS}"),
        ("model=[rla]", f"model=[rla]: no such option; allowed: {MODELS}; did you mean rla?"),
        ("model.name=rla", "model.name=rla: set by the files of model/; write model=OPTION"),
        ("model", "model: settings are written KEY=VALUE; did you mean model=OPTION with one of " + MODELS + "?"),
        ("no_clip", "no_clip: settings are written KEY=VALUE; did you mean ablation=no_clip?"),
        ("seed", "seed: settings are written KEY=VALUE; did you mean seed=VALUE?"),
        ("~model.clip", "~model.clip: settings cannot be deleted; write model.clip=null where nothing is meant"),
        ("model@x=rla", "model@x=rla: a group's place is fixed; write model=OPTION"),
        ("paths=x", "paths=x: paths holds the keys paths.runs and paths.cache; set those"),
        ("table=ablation", "table=ablation: table/ is no part of a training run"),
        ("hydra.verbose=true", "hydra.verbose=true: Hydra's own settings serve --multirun only"),
        (
            "data.train[0].length=8",
            "data.train[0].length=8: entries of a list are written with dots: data.train.0.length=VALUE",
        ),
        ("data.train.9.length=8", "data.train.9.length=8: the list ends earlier; entries count from 0"),
        ("optim.lr=${nope}", "optim.lr=${nope}: Interpolation key 'nope' not found"),
        (
            "logger.project=(a",
            "logger.project=(a: the value cannot be read; quote what has spaces or any of ,[]{}()'\": "
            "logger.project='\"(a\"'",
        ),
        (
            "model=rla,rdn",
            "model=rla,rdn: several values are a sweep, which needs --multirun; a list is written model=[A,B], "
            "text with commas model='\"A,B\"'",
        ),
    ],
)
def test_a_wrong_override_is_answered(problems, override, problem):
    assert problems(override) == [problem]


def test_a_name_is_set_once(problems):
    assert problems("seed=1", "+seed=2") == ["+seed=2: seed is already set by seed=1; leave one of them out"]


def test_a_wrong_option_hides_only_what_follows_from_it(problems):
    # without knowing the data nobody can say whether seq_len has an effect; the step count is wrong whatever the data
    wrong_option, wrong_value = problems("data=stdlib_dosc", "data.seq_len=64", "trainer.max_steps=0")
    assert wrong_option.startswith("data=stdlib_dosc: no such option; allowed: files, ")
    assert wrong_option.endswith("; did you mean stdlib_docs?")
    assert wrong_value == "trainer.max_steps=0: must be greater than 0"


def test_an_unreadable_value_does_not_hide_other_problems(problems):
    assert problems("model=rla", "ablation=no_residual", "model.clip=1", "optim.lr=x", "model.num_heads=0") == [
        "model.num_heads=0: must be greater than 0",
        "optim.lr=x: must be a valid number",
        "model.clip=1.0: has no effect with model.residual=off; it needs model.residual=fit",
    ]


def test_plus_signs_change_nothing():
    plain = compose(["seed=3", "model=rla"])
    assert compose(["++seed=3", "+model=rla"]).resolved == plain.resolved


def test_values_are_set_where_they_belong():
    composed = compose(
        [
            "model=rla",
            "data.test.1.num_examples=8",
            "model.clip=0.5",
            "optim.lr=2e-3",
            "seed=7",
            "logger=wandb",
            "logger.tags=[a,b]",
        ]
    )
    assert composed.config.model.name == "rla"
    assert composed.config.model.clip == 0.5
    assert composed.config.optim.lr == 0.002
    assert composed.config.seed == 7
    assert [segment.num_examples for segment in composed.config.data.test] == [1024, 8, 1024]
    assert composed.config.logger.tags == ["a", "b"]
    assert composed.resolved["optim"]["lr"] == 0.002


def test_a_sweep_is_the_product_of_its_values():
    runs = compose_sweep(["model=rla,rdn", "ablation=full,no_clip", "seed=range(3)"])
    found = [(run.config.model.name, run.config.ablation, run.config.seed) for run in runs]
    assert found == [(m, a, s) for m in ("rla", "rdn") for a in ("full", "no_clip") for s in (0, 1, 2)]
    assert runs[5].overrides == ["model=rla", "ablation=no_clip", "seed=2"]
    assert compose(runs[5].overrides).resolved == runs[5].resolved


def test_sweeps_understand_hydras_functions():
    runs = compose_sweep(["ablation=glob(no_*,exclude=no_residual)", "optim.lr=choice(1e-3,3e-3)"])
    assert [(run.config.ablation, run.config.optim.lr) for run in runs] == [
        (ablation, lr) for ablation in ("no_clip", "no_gamma", "no_norm") for lr in (1e-3, 3e-3)
    ]


def test_lists_are_no_sweeps():
    (run,) = compose_sweep(["data=files", "data.paths=[a.txt,b.txt]"])
    assert run.config.data.paths == ["a.txt", "b.txt"]


def test_every_value_of_a_sweep_is_checked(problems):
    assert problems("model=rla,rnd", "optim.lr=1e-3,abc", "sede=1,2", sweep=True) == [
        f"model=rnd: no such option; allowed: {MODELS}; did you mean rdn?",
        "sede=1,2: there is no setting sede; did you mean seed?",
        "optim.lr=abc: must be a valid number",
    ]
    assert problems("model=rla,delta_net", "ablation=full,no_clip", "seed=0,1", sweep=True) == [
        "ablation=no_clip: changes rla and rdn only, not model=delta_net; leave it out, or choose model=rla or rdn"
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "seed=interval(0,1)",
            "seed=interval(0,1): an interval has no end of values; write range(START,STOP,STEP) or a list A,B,C",
        ),
        ("ablation=glob(x*)", "ablation=glob(x*): there is no value in this sweep"),
        ("seed=range(3,3)", "seed=range(3,3): there is no value in this sweep"),
    ],
)
def test_a_sweep_that_cannot_be_counted_out_is_refused(problems, override, problem):
    assert problems(override, sweep=True) == [problem]


def test_hydra_is_given_what_yaml_files_leave_out():
    assert for_hydra("model.skip=true") == "++model.skip=true"
    assert for_hydra("+seed=1,2") == "++seed=1,2"
    assert for_hydra("model=rla,rdn") == "model=rla,rdn"

"""Every file of conf/ composes, and the ablations are what the paper's names mean."""

from dataclasses import asdict, replace

import pytest

from rla_exp.config import compose, conf_dir
from rla_exp.config.catalog import read_catalog
from rla_exp.config.keys import schema_keys
from rla_exp.errors import ConfigError

CATALOG = read_catalog(conf_dir())
OPTIONS = [f"{group}={option}" for group, options in CATALOG.options.items() for option in options]
# what an option does not stand without
COMPANIONS = {"data=files": ["data.paths=notes.txt"]}

MODELS = CATALOG.options["model"]
ABLATIONS = CATALOG.options["ablation"]
# the keys of a model that an ablation changes from full, for rla and rdn alike
CHANGES = {
    "full": {},
    "no_residual": {"residual": "off", "gamma": "none"},
    "tied_gamma": {"gamma": "tied"},
    "no_gamma": {"gamma": "one"},
    "no_norm": {"qk_norm": "none"},
    "no_clip": {"clip": None},
    "sum_output": {"output": "sum"},
    "value_state": {"residual": "value"},
    "decayed_prediction": {"decayed_prediction": True},
}
FULL = {"residual": "fit", "gamma": "dedicated", "qk_norm": "l2", "clip": 1.0, "output": "gated"}


def test_the_groups_hold_what_the_contract_names():
    assert set(MODELS) == set(schema_keys()["model.name"].allowed)
    assert set(ABLATIONS) == set(CHANGES)
    assert {"tiny", "1p5b"} <= set(CATALOG.options["size"])
    assert {"offline", "wandb"} <= set(CATALOG.options["logger"])
    assert set(CATALOG.options) == {
        "model", "size", "ablation", "data", "optim", "trainer", "logger", "experiment", "debug", "launcher", "sweeper"
    }  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option):
    compose([option, *COMPANIONS.get(option, [])])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_file_says_what_it_is_for(option):
    group, _, name = option.partition("=")
    assert CATALOG.summary(group, name).endswith((".", "?"))


@pytest.mark.parametrize("size", CATALOG.options["size"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_every_size(model, size):
    assert compose([f"model={model}", f"size={size}"]).config.model.name == model


@pytest.mark.parametrize("trainer", CATALOG.options["trainer"])
@pytest.mark.parametrize("debug", CATALOG.options["debug"])
def test_debugging_works_with_every_trainer(debug, trainer):
    assert compose([f"debug={debug}", f"trainer={trainer}"]).config.experiment == "debug"


@pytest.mark.parametrize("ablation", CHANGES)
@pytest.mark.parametrize("model", ["rla", "rdn"])
def test_an_ablation_changes_its_keys_and_no_others(model, ablation):
    full = compose([f"model={model}"]).config
    assert FULL.items() <= asdict(full.model).items()
    changed = compose([f"model={model}", f"ablation={ablation}"]).config
    assert changed == replace(full, ablation=ablation, model=replace(full.model, **CHANGES[ablation]))


@pytest.mark.parametrize("ablation", sorted(set(CHANGES) - {"full"}))
@pytest.mark.parametrize("model", sorted(set(MODELS) - {"rla", "rdn"}))
def test_other_models_have_no_ablations(problems, model, ablation):
    (problem,) = problems(f"model={model}", f"ablation={ablation}")
    assert problem.startswith(f"ablation={ablation}: changes rla and rdn only, not model={model}; ")


@pytest.mark.parametrize("model", MODELS)
def test_full_is_what_a_model_is_without_an_ablation(model):
    assert compose([f"model={model}", "ablation=full"]).resolved == compose([f"model={model}"]).resolved


@pytest.mark.parametrize(("model", "baseline"), [("rla", "linear_attention"), ("rdn", "gated_delta_net")])
def test_without_its_residual_a_model_is_its_baseline(model, baseline):
    without = compose([f"model={model}", "ablation=no_residual"]).config.model
    assert replace(without, name=baseline) == compose([f"model={baseline}"]).config.model


def test_the_clip_is_swept_under_full():
    assert compose(["model=rla", "ablation=full", "model.clip=0.5"]).config.model.clip == 0.5


@pytest.mark.parametrize("experiment", CATALOG.options["experiment"])
def test_an_experiment_has_a_folder_of_its_own(experiment):
    assert compose([f"experiment={experiment}"]).config.experiment == experiment


def test_a_preset_yields_to_the_command_line():
    config = compose(["experiment=text", "data=mqar", "model.mlp_dim=null", "size=small"]).config
    assert (config.data.name, config.model.mlp_dim, config.model.d_model > 64) == ("mqar", None, True)


@pytest.fixture
def own_conf(tmp_path):
    """A copy of conf/ that a test may spoil."""
    for path in conf_dir().rglob("*.yaml"):
        copied = tmp_path / path.relative_to(conf_dir())
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("optm:\n  lr: 1\n", "optm={lr:1}: a file sets it, but there is no such key; did you mean optim?"),
        ("optim:\n  lr: fast\n", "optim.lr=fast: must be a valid number"),
        (
            "model:\n  num_kv_heads: 1\n",
            "model.num_kv_heads=1: has no effect with model=rdn; it needs a model with attention mixers",
        ),
        (
            "defaults:\n  - override /model: rnd\n",
            "conf/ names model/rnd, which does not exist; did you mean model/rdn?",
        ),
        ("optim:\n  lr: ${nope}\n", "optim.lr: Interpolation key 'nope' not found"),
    ],
)
def test_a_wrong_preset_is_answered(own_conf, content, problem):
    (own_conf / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compose(["experiment=mine"], conf=own_conf)
    assert list(caught.value.problems) == [problem]


def test_a_file_that_lacks_a_key_is_answered(own_conf):
    (own_conf / "data" / "mine.yaml").write_text(
        "kind: text\nname: mine\nsource: stdlib_docs\nbatch_size: ???\nseq_len: 8\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        compose(["data=mine", "optim.lr=0"], conf=own_conf)
    assert list(caught.value.problems) == [
        "data.batch_size: nothing sets it; write data.batch_size=VALUE",
        "data.eval_batch_size: nothing sets it; a file of data/ must",
        "optim.lr=0: must be greater than 0",
    ]


@pytest.mark.parametrize("kind", ["", "kind: txt"])
def test_data_of_no_kind_is_answered(own_conf, kind):
    (own_conf / "data" / "mine.yaml").write_text(f"name: mine\n{kind}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compose(["data=mine"], conf=own_conf)
    assert list(caught.value.problems) == ["data.kind: a file of data/ must set it to mqar or text"]


def test_a_preset_that_is_no_yaml_is_answered(own_conf):
    (own_conf / "experiment" / "mine.yaml").write_text("optim: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"conf/ cannot be composed with experiment=mine: while parsing"):
        compose(["experiment=mine"], conf=own_conf)

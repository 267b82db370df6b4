"""Values of the wrong type or range are refused with what is allowed."""

import pytest

from rla_exp.config import compose
from rla_exp.config.typed import to_typed


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("optim.lr=abc", "optim.lr=abc: must be a valid number"),
        ("optim.lr=nan", "optim.lr=NaN: must be a finite number"),
        ("optim.lr=-1", "optim.lr=-1: must be greater than 0"),
        ("optim.beta2=1", "optim.beta2=1: must be less than 1"),
        ("optim.min_lr_ratio=2", "optim.min_lr_ratio=2: must be less than or equal to 1"),
        ("optim.grad_clip=0", "optim.grad_clip=0: must be greater than 0 or null"),
        ("trainer.max_steps=2.5", "trainer.max_steps=2.5: must be a valid integer"),
        ("trainer.max_steps=null", "trainer.max_steps=null: must be a valid integer"),
        ("trainer.devices=true", "trainer.devices=true: must be a valid integer"),
        ("trainer.compile=1", "trainer.compile=1: must be a valid boolean"),
        ("trainer.precision=16", "trainer.precision=16: must be one of 32, bf16-mixed, 16-mixed, bf16-true"),
        ("model.qk_norm=l1", "model.qk_norm=l1: must be one of l2, none"),
        ("model.rule=detla", "model.rule=detla: must be one of additive, delta; did you mean delta?"),
        ("model.clip=0", "model.clip=0: must be greater than 0 or null"),
        ("model.conv_size=1", "model.conv_size=1: must be greater than or equal to 2 or null"),
        ("data.train=5", "data.train=5: must be a list: [A,B]"),
        ("data.train=[]", "data.train=[]: must have at least 1 item, not 0"),
        (
            "data.name=../x",
            "data.name=../x: must be letters, digits, _, . and -, in parts separated by /, none beginning with a dot",
        ),
        ("paths.runs=[a]", "paths.runs=[a]: must be a valid string"),
        ("seed=4294967296", "seed=4294967296: must be less than 4294967296"),
    ],
)
def test_a_wrong_value_is_answered(problems, override, problem):
    assert problems(override) == [problem]


def test_what_hydra_reads_as_numbers_may_be_text():
    config = compose(["trainer.precision=32", "data.name=2024"]).config
    assert config.trainer.precision == "32"
    assert config.data.name == "2024"


def test_one_text_is_a_list_of_one():
    assert compose(["data=files", "data.paths=notes.txt"]).config.data.paths == ["notes.txt"]


def test_a_whole_number_is_a_number():
    assert compose(["optim.weight_decay=1"]).resolved["optim"]["weight_decay"] == 1.0


def test_what_a_run_writes_down_is_its_configuration():
    composed = compose(["model=rla", "data=stdlib_docs"])
    assert to_typed(composed.resolved) == (composed.config, [])

"""The wheel carries conf/, an editable install reads the checkout's."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module

import pytest

from rla_exp.config import conf_dir

ROOT = conf_dir().parent
BUILT_FROM = ("src", "conf", "pyproject.toml")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a wheel is built from, alone."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in (project["readme"], *project["license-files"]):
        (folder / name).write_text("", encoding="utf-8")
    return folder


def build(checkout, target):
    folder = checkout / target
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_wheel_composes_anywhere(checkout, tmp_path):
    with zipfile.ZipFile(build(checkout, "wheel")) as wheel:
        wheel.extractall(tmp_path)
    packed = {path.relative_to(tmp_path / "rla_exp" / "conf") for path in (tmp_path / "rla_exp/conf").rglob("*.yaml")}
    assert packed == {path.relative_to(conf_dir()) for path in conf_dir().rglob("*.yaml")}
    program = (
        "from rla_exp.config import compose, conf_dir; print(conf_dir(), compose(['model=rla']).config.model.name)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == [str(tmp_path / "rla_exp" / "conf"), "rla"]


def test_an_editable_install_points_into_the_checkout(checkout):
    with zipfile.ZipFile(build(checkout, "wheel:editable")) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert names == ["_rla_exp.pth"]
        assert wheel.read(names[0]).decode().strip() == str(checkout / "src")


def test_every_command_leads_to_a_function():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {"rla-train", "rla-table"} <= set(scripts)
    for place in scripts.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))

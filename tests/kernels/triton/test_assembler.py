"""The ptxas of an installed nvidia-cuda-nvcc is taken, unless the environment names another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rla_exp.kernels.triton import assembler


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the packages of nvidia."""
    monkeypatch.setenv(assembler.VARIABLE, "")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(assembler.importlib.util, "find_spec", lambda name: spec if name == "nvidia" else None)
    assembler.use_installed_assembler.cache_clear()
    yield tmp_path
    assembler.use_installed_assembler.cache_clear()


def install(packages: Path, version: str) -> Path:
    path = packages / version / "bin" / "ptxas"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_newest_is_taken(packages: Path) -> None:
    install(packages, "cu9")
    newest = install(packages, "cu13")
    assert assembler.use_installed_assembler() == newest
    assert assembler.os.environ[assembler.VARIABLE] == str(newest)


def test_a_chosen_one_stays(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(packages, "cu13")
    monkeypatch.setenv(assembler.VARIABLE, "/elsewhere/ptxas")
    assert assembler.use_installed_assembler() is None
    assert assembler.os.environ[assembler.VARIABLE] == "/elsewhere/ptxas"


def test_without_the_package_triton_keeps_its_own(packages: Path) -> None:
    assert assembler.use_installed_assembler() is None
    assert assembler.os.environ[assembler.VARIABLE] == ""
    (packages / "cu13" / "bin").mkdir(parents=True)
    assert assembler.installed_assembler() is None


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_version_is_of_what_triton_takes(capability: int) -> None:
    get_ptxas = pytest.importorskip("triton.backends.nvidia.compiler", reason="triton exists for Linux only").get_ptxas
    version = assembler.assembler_version(capability)
    assert ".".join(map(str, version)) == get_ptxas(capability).version
    assert version >= (12, 8)

"""The typed form of a table of kernel times: what is timed on a CPU, or which shape is read from benchmarks/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import Field, ValidationError

from rla_exp.config.locate import conf_dir
from rla_exp.errors import ConfigError
from rla_exp.report.columns import Section
from rla_exp.report.reported import ReportedFile, load_reported
from rla_exp.report.unknown import unknown_name

Op = Literal["linear_attention", "delta_net", "gated_delta_net", "rla", "rdn", "attention"]
Pass = Literal["fwd", "fwd+bwd", "step"]


class CpuTimes(Section):
    """Times that are taken here, of the backends that a CPU has."""

    source: Literal["cpu"]
    lengths: list[int] = Field(min_length=1)
    recurrent_up_to: int
    """The longest length for backend=recurrent, which goes token by token."""
    batch_size: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    repeats: int = Field(ge=2)


class StoredTimes(Section):
    """Times that `make bench` stored in benchmarks/<gpu>.json."""

    source: Literal["benchmarks"]
    lengths: list[int] = Field(min_length=1)
    head_dim: int = Field(ge=1)
    dtype: str


class KernelScale(Section):
    """One scale."""

    warning: str | None = None
    caption: str
    times: Annotated[CpuTimes | StoredTimes, Field(discriminator="source")]


class Reported(Section):
    """What others report beside: conf/reported/<source>.yaml, and a value in it."""

    source: str
    value: str


class KernelFile(Section):
    """A whole file of conf/table/ with kind: kernels."""

    kind: Literal["kernels"]
    title: str
    caption: str
    ops: dict[Op, str] = Field(min_length=1)
    """Operations with their labels, in the order of the rows."""
    passes: dict[Pass, str] = Field(min_length=1)
    reported: Reported
    scales: dict[str, KernelScale] = Field(min_length=1)


class KernelSpec(Section):
    """A table of kernel times at one scale."""

    name: str
    scale: str
    file: KernelFile

    @property
    def at_scale(self) -> KernelScale:
        """The scale's settings."""
        return self.file.scales[self.scale]

    @property
    def reported(self) -> ReportedFile:
        """The work whose numbers stand below the table."""
        return load_reported(self.file.reported.source)


def is_kernel_table(name: str, folder: Path | None = None) -> bool:
    """Whether conf/table/<name>.yaml is a table of kernel times; False where there is none."""
    path = (conf_dir() / "table" if folder is None else folder) / f"{name}.yaml"
    return path.is_file() and _read(path).get("kind") == "kernels"


def load_kernel_spec(name: str, scale: str, folder: Path | None = None) -> KernelSpec:
    """Read the table at a scale. Raises ConfigError with every problem of the file, or where the scale is unknown."""
    path = (conf_dir() / "table" if folder is None else folder) / f"{name}.yaml"
    try:
        file = KernelFile.model_validate(_read(path))
    except ValidationError as error:
        raise ConfigError(
            [f"{path.name}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        ) from None
    if scale not in file.scales:
        raise ConfigError([unknown_name("scale", scale, file.scales)])
    load_reported(file.reported.source).value(file.reported.value)
    return KernelSpec(name=name, scale=scale, file=file)


def _read(path: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}

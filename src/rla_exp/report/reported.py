"""Numbers that others report, from conf/reported/*.yaml: each with its source, none of them ours."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError
from yaml import YAMLError

from rla_exp.config.locate import conf_dir
from rla_exp.errors import ConfigError
from rla_exp.report.columns import Section
from rla_exp.report.unknown import unknown_name


class ReportedValue(Section):
    """A quantity and what is reported of it, by row key."""

    label: str
    unit: str
    source: str
    """Where in the work, and how we know it."""
    rows: dict[str, float] = Field(min_length=1)


class ReportedFile(Section):
    """A work and its numbers."""

    title: str
    url: str
    note: str
    values: dict[str, ReportedValue] = Field(min_length=1)

    def value(self, name: str) -> ReportedValue:
        """A quantity. Raises ConfigError where the work has none of that name."""
        if name not in self.values:
            raise ConfigError([unknown_name("reported value", name, self.values)])
        return self.values[name]


def load_reported(source: str, folder: Path | None = None) -> ReportedFile:
    """Read conf/reported/<source>.yaml. Raises ConfigError where it is not there or not as it must be."""
    folder = conf_dir() / "reported" if folder is None else folder
    path = folder / f"{source}.yaml"
    if not path.is_file():
        raise ConfigError(
            [unknown_name("reported source", source, sorted(file.stem for file in folder.glob("*.yaml")))]
        )
    try:
        return ReportedFile.model_validate(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError([f"{path.name}: cannot be read as YAML: {error}"]) from error
    except ValidationError as error:
        raise ConfigError(
            [f"{path.name}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        ) from None

"""Who computes: the backends here, and peers where their packages are installed.

A peer's package is imported in the process that measures it and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from rla_exp.bench.cases import OPTIONS, Case, Op, Pass

Group = Literal["op and pass", "shape", "all"]


@dataclass(frozen=True)
class Implementation:
    """What computes some of the operations."""

    name: str
    """As the settings name it."""
    ops: tuple[Op, ...]
    passes: tuple[Pass, ...]
    package: str
    """The module that it needs."""
    distributions: tuple[str, ...]
    """Packages that tell its version, the first that is installed."""
    group: Group
    """Cases that share a process; an autotuner that takes choices over from another shape gets one for each shape."""
    autotunes: bool = False
    """Its first call must have the device to itself."""
    detail: str = ""
    """What follows the version in its label."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of its process."""

    @property
    def is_peer(self) -> bool:
        """Whether it is somebody else's."""
        return self.name != OURS

    @property
    def is_installed(self) -> bool:
        """Whether its package is here."""
        return find_spec(self.package) is not None

    @property
    def label(self) -> str | None:
        """Name and version for the rows; None: ours."""
        if not self.is_peer:
            return None
        for distribution in self.distributions:
            try:
                return f"{distribution} {version(distribution)}{self.detail}"
            except PackageNotFoundError:
                continue
        return f"{self.package}{self.detail}"

    def computes(self, case: Case) -> bool:
        """Whether it has the operation and the pass."""
        return case.op in self.ops and case.run in self.passes

    def group_of(self, case: Case) -> tuple[object, ...]:
        """Cases with equal groups share a process."""
        return {"op and pass": (case.op, case.run), "shape": (case.shape,), "all": ()}[self.group]


OURS = "ours"
BOTH: tuple[Pass, ...] = ("fwd", "fwd+bwd")
FLA = ("fla-core", "flash-linear-attention")
# with flash_qla installed fla hands over to it in silence
FLA_ALONE = {"FLA_FLASH_QLA": "0"}

IMPLEMENTATIONS: tuple[Implementation, ...] = (
    Implementation(OURS, tuple(OPTIONS), (*BOTH, "step"), "torch", (), "op and pass"),
    Implementation("sdpa_flash", ("attention",), BOTH, "torch", ("torch",), "all", detail=" SDPA, flash"),
    Implementation("sdpa_cudnn", ("attention",), BOTH, "torch", ("torch",), "all", detail=" SDPA, cuDNN"),
    Implementation(
        "fla",
        ("linear_attention", "delta_net", "gated_delta_net"),
        BOTH,
        "fla",
        FLA,
        "shape",
        autotunes=True,
        environment=FLA_ALONE,
    ),
    Implementation(
        "fla_twice",
        ("rla", "rdn"),
        BOTH,
        "fla",
        FLA,
        "shape",
        autotunes=True,
        detail=", 2 passes",
        environment=FLA_ALONE,
    ),
    Implementation("flash_qla", ("gated_delta_net",), BOTH, "flash_qla", ("flash-qla",), "all", autotunes=True),
)
NAMES = tuple(implementation.name for implementation in IMPLEMENTATIONS)


def default_names(*, on_cpu: bool, torch_alone: bool) -> tuple[str, ...]:
    """Those that a benchmark takes unless others are named.

    Args:
        on_cpu: without those that need a GPU.
        torch_alone: without those that need another package.
    """
    return tuple(
        implementation.name
        for implementation in IMPLEMENTATIONS
        if (implementation.package == "torch" or not (on_cpu or torch_alone))
        and not (on_cpu and implementation.name == "sdpa_cudnn")
    )


def named(names: Sequence[str]) -> list[Implementation]:
    """In the order of IMPLEMENTATIONS."""
    return [implementation for implementation in IMPLEMENTATIONS if implementation.name in names]

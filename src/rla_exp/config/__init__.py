"""Configurations: the typed schema of `conf/`, composition from overrides, checks, and the identity of a run."""

from rla_exp.config.composition import Composed, compose, compose_sweep
from rla_exp.config.locate import conf_dir
from rla_exp.config.run_identity import hash8, identity

__all__ = ["Composed", "compose", "compose_sweep", "conf_dir", "hash8", "identity"]

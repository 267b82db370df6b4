"""Language models over the operator of `rla_exp.kernels`."""

from rla_exp.models.build import build_model
from rla_exp.models.cache import Cache
from rla_exp.models.language_model import LanguageModel

__all__ = ["Cache", "LanguageModel", "build_model"]

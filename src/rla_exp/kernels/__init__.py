"""The operator: linear attention and the gated delta rule, with residual fitting (arXiv 2509.25223)."""

from rla_exp.kernels.api import linear_attention, linear_attention_step
from rla_exp.kernels.diagnose import Diagnostics, diagnose
from rla_exp.kernels.self_checks import self_checks
from rla_exp.kernels.state import State
from rla_exp.kernels.triton.tuning import tuned_tiles

__all__ = [
    "Diagnostics",
    "State",
    "diagnose",
    "linear_attention",
    "linear_attention_step",
    "self_checks",
    "tuned_tiles",
]

"""What happens around the training steps: measuring, showing, saving, stopping."""

from rla_exp.lit.callbacks.diagnostics import Diagnostics
from rla_exp.lit.callbacks.evaluation import Evaluation
from rla_exp.lit.callbacks.measure import Measure
from rla_exp.lit.callbacks.progress import Progress
from rla_exp.lit.callbacks.self_checks import SelfChecks
from rla_exp.lit.callbacks.step_end import StepEnd

__all__ = ["Diagnostics", "Evaluation", "Measure", "Progress", "SelfChecks", "StepEnd"]

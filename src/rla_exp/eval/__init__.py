"""Evaluation of trained models: by lm-eval's tasks, by recall, by needles in haystacks."""

from rla_exp.eval.restore import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]

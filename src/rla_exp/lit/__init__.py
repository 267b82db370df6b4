"""Training with Lightning. Importing this room imports PyTorch, but Lightning only where something is trained."""

from rla_exp.lit.train import train_run

__all__ = ["train_run"]

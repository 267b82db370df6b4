"""Hydra finds sweepers below `hydra_plugins`; this one searches hyperparameters with Optuna."""

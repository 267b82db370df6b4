"""Hydra finds launchers below `hydra_plugins`; this one starts every job of a `--multirun` as a process of its own."""

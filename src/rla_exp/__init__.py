"""Ablation studies of residual linear attention (RLA, RDN; arXiv 2509.25223) that can be trusted."""

__version__ = "0.1.0"

"""Data by index: MQAR and text, as pure functions of (configuration, seed, index)."""

from rla_exp.data.batch import IGNORE, Batch, CorpusFingerprint, Data, EvalSplit
from rla_exp.data.build import build_data, corpus_fingerprint

__all__ = ["IGNORE", "Batch", "CorpusFingerprint", "Data", "EvalSplit", "build_data", "corpus_fingerprint"]

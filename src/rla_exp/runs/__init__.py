"""A run's folder: what a run leaves behind, and who may write there."""

from rla_exp.runs.cache_dir import cache_dir
from rla_exp.runs.folder import RunFolder, run_name
from rla_exp.runs.provenance import EVALUATING, describe_commit, git_commit, sources_hash
from rla_exp.runs.result import Result, read_result
from rla_exp.runs.same_config import check_same_config
from rla_exp.runs.status import RunState, Status

__all__ = [
    "EVALUATING",
    "Result",
    "RunFolder",
    "RunState",
    "Status",
    "cache_dir",
    "check_same_config",
    "describe_commit",
    "git_commit",
    "read_result",
    "run_name",
    "sources_hash",
]

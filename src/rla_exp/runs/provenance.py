"""Where numbers come from: a hash of the sources that compute them, and the commit they were at."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
COMPUTING = ("kernels", "models", "data", "lit")
"""The rooms whose code changes what training comes to; the others only start runs and read their files."""
EVALUATING = ("kernels", "models", "data", "generation", "eval")
"""Those whose code changes what an evaluation of a trained model comes to."""


@cache
def sources_hash(rooms: tuple[str, ...] = COMPUTING) -> str:
    """SHA-256 (hex) of the names and contents of all Python and YAML files in the rooms that compute numbers."""
    digest = hashlib.sha256()
    for room in rooms:
        for file in sorted(path for path in (PACKAGE / room).rglob("*") if path.suffix in (".py", ".yaml")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


@cache
def git_commit() -> tuple[str, bool] | None:
    """The commit of the checkout that this package runs from, and whether tracked files differ from it.

    None where there is no checkout or no git: an installed package is known by `sources_hash` alone.
    """
    # a virtual environment inside some other project's checkout is not ours
    tracked = _git("ls-files", "--error-unmatch", str(PACKAGE / "__init__.py"))
    commit = _git("rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    return commit.strip(), bool(_git("status", "--porcelain", "--untracked-files=no"))


def describe_commit() -> str:
    """The commit in words, for files that tell where they come from."""
    found = git_commit()
    return "unknown" if found is None else found[0] + (" with changes" if found[1] else "")


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None

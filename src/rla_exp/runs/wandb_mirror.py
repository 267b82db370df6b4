"""What Weights & Biases holds of a run (id, group, files that wait for `wandb sync`), and its credentials."""

from __future__ import annotations

import netrc
import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from rla_exp.runs.files import read_json, write_json

WANDB_FILE = "wandb.json"
OFFLINE = "offline-run-*"


def has_credentials() -> bool:
    """Whether W&B can be reached with a key: WANDB_API_KEY, or the entry that `wandb login` writes to ~/.netrc.

    WANDB_MODE=offline says that it should not be.
    """
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_id(path: Path) -> str:
    """The id of the run in the folder `path`; made once, so that a resumed run goes on in the same W&B run."""
    file = path / WANDB_FILE
    stored = read_json(file)
    if stored is None:
        stored = {"id": uuid.uuid4().hex[:12]}
        write_json(file, stored)
    return str(stored["id"])


def wandb_group(experiment: str, path: Path) -> str:
    """<experiment>/<name>-<hash8>: the seeds of one configuration share it."""
    return f"{experiment}/{path.parent.name}"


def offline_folders(path: Path) -> list[Path]:
    """Folders of the run in the folder `path` that W&B wrote without a connection, oldest first."""
    return sorted(folder for folder in (path / "wandb").glob(OFFLINE) if folder.is_dir())


def waiting_folders(path: Path) -> list[Path]:
    """Those of `offline_folders` that `wandb sync` has not sent yet; it leaves a file beside what it sent."""
    return [folder for folder in offline_folders(path) if not any(folder.glob("*.wandb.synced"))]

"""One process a run."""

from __future__ import annotations

import errno
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rla_exp.errors import RunError, RunHeldError
from rla_exp.runs.lock import STALE_SECONDS, Holder, holder, is_locked, lock

lock_file = importlib.import_module("rla_exp.runs.lock")

HOLD = """
import sys, time
from pathlib import Path
from rla_exp.runs.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert is_locked(tmp_path)
    with pytest.raises(RunError, match=rf"is being trained by process {holder.pid} on .*; wait for it or stop it"):
        lock(tmp_path).__enter__()
    holder.kill()
    holder.communicate()
    assert not is_locked(tmp_path)
    with lock(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock(tmp_path):
        raise KeyError
    assert not is_locked(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_full_disk_hides_no_error(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/dev/full")

    def break_down() -> None:
        with lock(tmp_path):
            assert is_locked(tmp_path)
            raise KeyError("the reason")

    with pytest.raises(KeyError, match="the reason"):
        break_down()
    assert not is_locked(tmp_path)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*lock: No such file or directory"):
        lock(tmp_path / "absent").__enter__()


def claim(folder: Path, *, host: str, seconds_ago: float) -> None:
    """What a holder that died, or that this machine's kernel does not know of, leaves in the file."""
    (folder / "lock").write_text(json.dumps({"pid": os.getpid(), "host": host}))
    then = time.time() - seconds_ago
    os.utime(folder / "lock", (then, then))


def test_a_dead_holder_of_this_machine_holds_nothing_even_if_its_id_lives_again(tmp_path: Path) -> None:
    # the id in the file is that of a process that lives: this one
    claim(tmp_path, host=socket.gethostname(), seconds_ago=0)
    assert not is_locked(tmp_path)
    with lock(tmp_path):
        assert is_locked(tmp_path)


def test_a_holder_on_another_node_counts_until_it_is_stale(tmp_path: Path) -> None:
    claim(tmp_path, host="node7", seconds_ago=STALE_SECONDS - 5)
    assert is_locked(tmp_path)
    with pytest.raises(RunHeldError, match=rf"trained by process {os.getpid()} on node7"):
        lock(tmp_path).__enter__()
    claim(tmp_path, host="node7", seconds_ago=STALE_SECONDS + 5)
    assert not is_locked(tmp_path)
    with lock(tmp_path):
        assert holder(tmp_path) == Holder(os.getpid(), socket.gethostname())
    # given back, it is nobody's
    assert holder(tmp_path) is None


def test_a_holder_renews_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "RENEW_SECONDS", 0.02)
    with lock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "lock").stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(lock_file.fcntl, "flock", refuse)
    with pytest.raises(RunError, match=r"cannot lock .*lock: Function not implemented; its file system has no locks"):
        lock(tmp_path).__enter__()

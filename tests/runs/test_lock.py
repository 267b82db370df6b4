"""One process a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rla_exp.errors import RunError
from rla_exp.runs.lock import is_locked, lock

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

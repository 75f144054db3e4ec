"""One process at a time; who it is is said; a holder that died holds nothing."""

import contextlib
import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from residual.errors import StorageError
from residual.locks import lock
from tests.conftest import subprocess_environment

HOLDER = """
import sys, time
from pathlib import Path
from residual.locks import lock
with lock(Path(sys.argv[1]), "the run x"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def another_process(path: Path):
    """A process that holds the lock at `path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], env=subprocess_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def take(path):
    with lock(path, "the run x"):
        return path.with_name("lock.holder").read_text()


def test_a_second_process_is_refused_until_the_holder_is_dead(tmp_path):
    path = tmp_path / "lock"
    with another_process(path) as holder:
        for _ in range(2):
            with pytest.raises(StorageError, match="the run x is in use by another process") as caught:
                take(path)
            assert f"(process {holder.pid} on " in str(caught.value)
            assert "wait for it" in str(caught.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert f"process {holder.pid} " in path.with_name("lock.holder").read_text()
        assert f"process {holder.pid} " not in take(path)
    assert not path.with_name("lock.holder").exists()


def test_a_lock_is_free_after_success_and_after_failure(tmp_path):
    with contextlib.suppress(ZeroDivisionError), lock(tmp_path / "lock", "the run x"):
        1 / 0  # noqa: B018
    assert take(tmp_path / "lock").startswith("process ")


def test_a_second_holder_in_the_same_process_is_refused(tmp_path):
    with lock(tmp_path / "lock", "the run x"):
        with pytest.raises(StorageError, match="the run x is in use"):
            take(tmp_path / "lock")
        assert tmp_path.joinpath("lock.holder").exists()  # the refused one leaves the holder's note alone


def test_a_lock_where_none_can_be_is_a_refusal_of_the_disk(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        take(tmp_path / "file" / "lock")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks otherwise")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_and_no_file_is_taken_for_one(tmp_path, monkeypatch, number):
    import fcntl

    def no_locks(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StorageError, match="this file system has no locks") as caught:
        take(tmp_path / "lock")
    assert "-o flock" in str(caught.value)
    monkeypatch.undo()
    assert take(tmp_path / "lock").startswith("process ")


def test_a_machine_whose_name_no_encoding_has_still_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "b\u00fc-\udcff")
    with lock(tmp_path / "lock", "the run x"):
        said = (tmp_path / "lock.holder").read_text(encoding="utf-8")
    assert said == f"process {os.getpid()} on b\u00fc-?\n"

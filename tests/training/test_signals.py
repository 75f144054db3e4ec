"""One signal saves the run, however often it is sent within a moment; a later one ends the process at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from residual.runs.folder import RunFolder
from residual.training.signals import Signals, stop
from residual.tuning.heard import Heard
from tests.cli.conftest import LONG
from tests.conftest import subprocess_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

TWICE = """
import contextlib, signal, sys
from residual.training import signals
number = int(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell puts into the background ignores it
span = "AGAIN_TYPED" if number == signal.SIGINT else "AGAIN"
whose = signals.own_process if "own" in sys.argv else contextlib.nullcontext
with whose(), signals.Signals() as heard:
    setattr(signals, span, 3600.0)
    for _ in range(3):
        signal.raise_signal(number)
    print(heard.number, flush=True)
    setattr(signals, span, 0.0)
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(5)
print("went on", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_what_comes_again_at_once_is_the_same_signal_and_a_later_one_ends_all(name: str) -> None:
    number = signal.Signals[name]
    words = [sys.executable, "-c", TWICE, str(int(number)), "own"]
    said = subprocess.run(words, env=subprocess_environment(), capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (128 + number, f"{int(number)}\n"), said.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 5), ("SIGTERM", -signal.SIGTERM)])
def test_in_a_program_of_others_a_later_one_does_what_it_did_before(name: str, code: int) -> None:
    words = [sys.executable, "-c", TWICE, str(int(signal.Signals[name]))]
    said = subprocess.run(words, env=subprocess_environment(), capture_output=True, text=True, check=False)
    assert said.returncode == code, said.stderr
    assert ("interrupted" in said.stdout) == (name == "SIGINT"), "a notebook keeps its variables"


def test_after_a_stop_from_within_a_first_signal_at_once_is_the_same_one() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Signals() as heard:
        stop()
        signal.raise_signal(signal.SIGINT)  # no KeyboardInterrupt
        assert heard.number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == before


def test_a_hangup_is_heeded_unless_nohup_has_it_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Signals() as deaf:
            signal.raise_signal(signal.SIGHUP)
        assert not deaf
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Heard() as outer:
            with Signals() as inner:
                signal.raise_signal(signal.SIGHUP)
            assert inner.number == signal.SIGHUP
            assert outer
            assert outer.number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_terminal_that_goes_away_leaves_a_saved_run(tmp_path: Path) -> None:
    import pty

    run = RunFolder(tmp_path / "run")
    child, terminal = pty.fork()
    if not child:
        rare = [word.replace("every_steps=2", "every_steps=1000000") for word in (*LONG[:2], *LONG[4:])]
        words = [sys.executable, "-m", "residual", *rare, "--out", str(run.path)]
        os.execve(sys.executable, words, subprocess_environment())
    os.set_blocking(terminal, False)

    said = b""

    def learns() -> bool:
        nonlocal said
        try:
            said += os.read(terminal, 1 << 16)  # else it is full, and the program waits
        except BlockingIOError:
            pass
        except OSError:
            pytest.fail(said.decode())
        return run.records_path.exists() and run.records_path.stat().st_size > 0

    try:
        until(learns)
    finally:
        os.close(terminal)
    ended: list[int] = []

    def over() -> bool:
        pid, code = os.waitpid(child, os.WNOHANG)
        ended.extend([code] if pid else [])
        return bool(ended)

    until(over)
    assert os.waitstatus_to_exitcode(ended[0]) == 128 + signal.SIGHUP
    assert [entry["event"] for entry in run.sessions()] == ["began", "interrupted"]
    newest = run.newest_checkpoint()
    assert newest is not None
    assert newest[0]["step"] == run.sessions()[-1]["step"] > 0


BREAK = """
import signal, sys
signal.SIGBREAK = signal.SIGUSR1  # what Windows calls so is its own
if sys.argv[1] == "decoder":
    from residual.data.decoder import main
    main()
    print(signal.getsignal(signal.SIGBREAK) == signal.SIG_IGN, file=sys.stderr)
else:
    from residual.training.signals import Signals
    with Signals() as heard:
        signal.raise_signal(signal.SIGBREAK)
        print(heard.number == signal.SIGBREAK, file=sys.stderr)
"""


@pytest.mark.parametrize("who", ["decoder", "run"])
def test_a_break_of_windows_is_heeded_and_ends_no_decoder(who: str) -> None:
    words = [sys.executable, "-c", BREAK, who]
    said = subprocess.run(
        words, env=subprocess_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (said.returncode, said.stderr.decode().split()) == (0, ["True"])

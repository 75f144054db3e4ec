"""Processes that begin with torch already loaded, for tests in which a start is needed and not looked at.

Loading torch and the program takes longer than most trainings of these tests. Here one process has loaded them, and
forks for every start; `warm_popen` asks it, and gives a `subprocess.Popen` like any other: the new process is a child
of the test's, has its own streams, folder, environment and session, and can be killed, stopped and waited for.
What cannot be had so (another system than Linux, a command that is no module of Python, another number of threads)
begins as usual.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

_SUBREAPER = 36
"""prctl's PR_SET_CHILD_SUBREAPER: orphans below this process become its children."""
_LARGEST = 1 << 20
_NAMES = (
    *("args", "close_fds", "pass_fds", "preexec_fn", "cwd", "env", "shell", "executable", "start_new_session"),
    *("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"),
)
_LOADED_BY = ("PYTHON", "LD_", "MALLOC_", "OMP_", "MKL_", "KMP_", "TORCH_", "ATEN_", "DNNL_", "MPL")
"""What of the environment is read when libraries are loaded; where it differs, a process must load its own."""


def _of_loading(environment: Mapping[str, str]) -> dict[str, str]:
    own = ("TORCH_CPP_LOG_LEVEL", *(["PYTHONUTF8"] if environment.get("PYTHONUTF8") == "1" else []))
    return {name: value for name, value in environment.items() if name.startswith(_LOADED_BY) and name not in own}


class Server:
    """The process that has loaded everything, seen from a test's."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self.loading = _of_loading(environment)
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._ready: bool | None = None
        with its:
            command = [sys.executable, "-m", "tests.warm", str(its.fileno())]
            quiet = subprocess.DEVNULL
            single = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
            self._process = subprocess.Popen(
                command, env={**environment, **single}, stdin=quiet, stdout=quiet, pass_fds=(its.fileno(),)
            )

    def ready(self) -> bool:
        """Whether it has loaded everything; waited for the first time, and False where it could not."""
        with self._lock:
            if self._ready is None:
                self._ready = self._socket.recv(64) == b"ready"
            return self._ready

    def fork(self, request: Mapping[str, Any], streams: Sequence[int]) -> int:
        """The number of a new process."""
        text = json.dumps(request, ensure_ascii=True).encode()
        assert len(text) < _LARGEST
        with self._lock:
            _adopt(True)
            try:
                socket.send_fds(self._socket, [text], list(streams))
                answer = self._socket.recv(64)
            finally:
                _adopt(False)
        assert answer, "the process with everything loaded has ended"
        return int(answer)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)


def _adopt(orphans: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(orphans), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def possible() -> bool:
    """Whether this system and this Python can do it."""
    method = getattr(subprocess.Popen, "_execute_child", None)
    return sys.platform == "linux" and method is not None and {*_NAMES} <= {*inspect.signature(method).parameters}


def warm_popen(server: Server) -> type[subprocess.Popen[Any]]:
    """A class in the place of `subprocess.Popen`."""
    cold = subprocess.Popen
    parameters = inspect.signature(cold._execute_child)  # type: ignore[attr-defined]

    class Warm(cold):  # type: ignore[valid-type, misc]
        def _execute_child(self, *values: Any, **more: Any) -> None:
            asked = parameters.bind(self, *values, **more).arguments
            environment = os.environ if asked["env"] is None else asked["env"]
            given = asked["args"]
            words: list[str] = [] if isinstance(given, str | bytes) else [*map(os.fsdecode, given)]
            alike = ("process_group", "umask", "user", "group", "extra_groups", "uid", "gid", "gids")
            plain = all(asked.get(name) in (None, -1) for name in alike)
            ours = words[:2] == [sys.executable, "-m"] and words[2].split(".")[0] in ("residual", "campaigns", "tests")
            usual = ours and not any(asked[name] for name in ("shell", "preexec_fn", "pass_fds"))
            if not usual or not plain or _of_loading(environment) != server.loading or not server.ready():
                super()._execute_child(*values, **more)
                return
            streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
            request = {
                "words": words[2:],
                "cwd": os.path.abspath(asked["cwd"] or "."),
                "env": dict(environment),
                "session": bool(asked["start_new_session"]),
            }
            try:
                self.pid = server.fork(request, [own if one == -1 else one for own, one in enumerate(streams)])
                self._child_created = True
            finally:
                self._close_pipe_fds(*(asked[name] for name in _NAMES[-6:]))

    return Warm


def _serve(place: int) -> dict[str, Any] | None:
    """Fork for every request, and return in the new process with what it is to do; None when nobody asks any more."""
    channel = socket.socket(fileno=place)
    channel.send(b"ready")
    while True:
        text, streams, *_ = socket.recv_fds(channel, _LARGEST, 3)
        if not text:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:  # its child is an orphan at once, and so the test's
            child = os.fork()
            if child:
                os.write(writing, str(child).encode())
                os._exit(0)
            channel.close()
            for own, one in enumerate(streams):
                os.dup2(one, own)
            for one in (*streams, reading, writing):
                os.close(one)
            return dict(json.loads(text))
        os.waitpid(between, 0)
        answer = os.read(reading, 64)
        for one in (*streams, reading, writing):
            os.close(one)
        channel.send(answer)


def _load() -> None:
    """All of the program, and what it loads when it trains or searches."""
    import residual

    for name in ("optuna", "sqlalchemy.dialects.sqlite", "torch.distributed"):
        import_module(name)
    for module in pkgutil.walk_packages(residual.__path__, "residual."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                import_module(module.name)


def main(place: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the test hears it
    _load()
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads, of which a fork would take one"
    asked = _serve(place)
    if asked is None:
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["session"]:
        os.setsid()
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    errors = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(errors, "utf-8", "backslashreplace", line_buffering=True)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    module, *arguments = asked["words"]
    sys.argv = [module, *arguments]
    sys.path[0] = asked["cwd"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

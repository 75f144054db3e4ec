"""A PostgreSQL server of one's own: made in a temporary folder, started on a free port, stopped, started again.

The programs are those of Debian's package `postgresql` or whichever `initdb` is on the path. A server never runs as
root, so root hands the folder to the user `postgres`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PASSWORD = "s3cret-of-the-test"


def programs() -> Path | None:
    """The folder with initdb and postgres, the newest release first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]), reverse=True)
    on_path = shutil.which("initdb")
    if found:
        return found[0].parent
    return Path(on_path).resolve().parent if on_path else None


def why_not() -> str:
    """Why no server can be started here; nothing where one can."""
    if sys.platform == "win32":
        return "no PostgreSQL server is started on Windows"
    if programs() is None:
        return "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0:
        import pwd

        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "root may not run a PostgreSQL server, and there is no user postgres"
    return ""


class Server:
    """`with Server() as server: ... server.url`."""

    def __init__(self) -> None:
        found = programs()
        if found is None or why_not():
            raise RuntimeError(why_not())
        self._bin = found
        self.folder = Path(tempfile.mkdtemp(prefix="residual-pg-"))
        self._as: dict[str, Any] = {}
        if sys.platform != "win32" and os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://tuner:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Server:
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [
            "initdb",
            "-D",
            "data",
            "-U",
            "tuner",
            "-A",
            "scram-sha-256",
            "--pwfile=secret",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        self._run([str(self._bin / command[0]), *command[1:], "--locale=C"])
        self.start()
        return self

    def _run(self, command: list[str]) -> None:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True, **self._as)

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        command = [str(self._bin / "postgres"), "-D", "data", "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=40", "-c", "fsync=off"],
                cwd=self.folder, env={"LC_ALL": "C"}, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-1000:])

    def stop(self) -> None:
        """At once, as in a power cut of its connections: every session is ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": open transactions are rolled back
            self._process.wait(60)
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

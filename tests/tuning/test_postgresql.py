"""The same ledger on a real PostgreSQL server, its restart in the middle included."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from campaigns.postgresql import PASSWORD, Server, why_not
from residual.errors import ResidualError, StorageError
from residual.tuning.address import parse_address
from residual.tuning.database import Database
from residual.tuning.ledger import Ledger
from residual.tuning.study import Study, open_study
from tests.conftest import ROOT, subprocess_environment
from tests.tuning.analytic import begin, story, worker

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def _running(server: Server) -> None:
    server.start()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))


_open: list[Study] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def opened(name: str, server: Server) -> Study:
    _open.append(begin(name, storage=server.url))
    return _open[-1]


def test_two_processes_make_the_populations_of_one_on_sqlite_through_a_restart(server: Server) -> None:
    alone = begin("crew")
    worker(alone).run()
    command = [sys.executable, "-m", "tests.tuning.analytic", "crew", "ga", "0", server.url]
    environment = subprocess_environment({"OMP_NUM_THREADS": "1"})
    crew = [subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    began = time.monotonic()
    while time.monotonic() - began < 60:
        with suppress(ResidualError), closing(open_study("crew", server.url, wait=1)) as study:
            if study.read().generations:
                break
        time.sleep(0.02)
    server.stop()
    time.sleep(0.3)
    server.start()
    said = [one.communicate(timeout=120)[1] for one in crew]
    assert [one.returncode for one in crew] == [0, 0], "\n".join(said)
    with closing(open_study("crew", server.url)) as found:
        assert story(found.read()) == story(alone.read())
    assert PASSWORD not in (found.folder / "study.json").read_text() + "".join(said)


def test_a_server_that_is_away_is_waited_for_and_then_named(server: Server) -> None:
    study = opened("patient", server)
    server.stop()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    assert study.ledger.facts() == study.facts
    timer.join()
    server.stop()
    study.database._wait = 0.3
    with pytest.raises(StorageError, match="refused") as caught:
        study.read()
    assert PASSWORD not in str(caught.value)
    server.start()
    assert study.read().individuals == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (PASSWORD, "wr0ng", "password authentication failed"),
        ("/postgres", "/nowhere", "does not exist"),
        ("tuner", "who", "failed"),
        ("127.0.0.1", "nowhere.invalid", "resolve"),
        ("/postgres", "/postgres?sslmode=require", "SSL"),
    ],
)
def test_what_does_not_pass_is_told_at_once_and_without_the_password(
    server: Server, old: str, new: str, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match=words) as caught:
        Database(parse_address(new.join(server.url.rsplit(old, 1)), Path()))
    assert time.monotonic() - began < 8
    assert PASSWORD not in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_a_first_contact_waits_for_a_server_that_starts(server: Server) -> None:
    server.stop()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    assert opened("early", server).facts["name"] == "early"
    timer.join()


def ask(study: Study, *statements: str) -> None:
    """Say something to the server as its master, through a connection of its own."""
    from sqlalchemy import create_engine

    engine = create_engine(study.address.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_connection_that_was_cut_while_idle_is_made_anew(server: Server) -> None:
    study = opened("cut", server)
    assert study.read().individuals == ()
    ask(study, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert study.ledger.facts() == study.facts


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems call these options by other names")
def test_a_host_that_falls_silent_is_noticed_before_waiting_ends(server: Server) -> None:
    def options(study: Study) -> list[int]:
        with study.database.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            with socket.socket(fileno=os.dup(raw.pgconn.socket)) as line:
                names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                return [line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]

    assert options(opened("silent", server)) == [10, 5, 3, 30_000]
    with closing(open_study("silent", f"{server.url}?keepalives_idle=99&tcp_user_timeout=7000")) as own:
        assert options(own) == [99, 5, 3, 7_000]


def test_missing_rights_and_a_statement_that_takes_too_long_are_named(server: Server) -> None:
    study = opened("rights", server)
    for role in ("guest", "hasty"):
        ask(study, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    guest = Database(parse_address(server.url.replace("tuner:", "guest:"), Path()), read_only=True, wait=0.3)
    with pytest.raises(StorageError, match="permission denied") as caught:
        Ledger(guest, "rights").facts()
    guest.close()
    ask(study, "ALTER ROLE hasty SUPERUSER", "ALTER ROLE hasty SET statement_timeout = '50ms'")

    def sleep() -> None:
        address = parse_address(server.url.replace("tuner:", "hasty:"), Path())
        with closing(Database(address, read_only=True, wait=0.3)) as hasty:
            hasty.do(lambda session: session.connection().exec_driver_sql("SELECT pg_sleep(2)"))

    with pytest.raises(StorageError, match="statement timeout") as timed:
        sleep()
    assert PASSWORD not in f"{caught.value} {timed.value}"
    assert study.read().individuals == (), "nothing is lost"


def test_too_many_connections_are_waited_for(server: Server) -> None:
    study = opened("busy", server)
    hogs: list[tuple[Database, Any]] = []

    def crowd() -> None:
        while len(hogs) < 60:
            database = Database(study.address, wait=0.2)
            hogs.append((database, database.engine.connect()))

    with pytest.raises(StorageError, match=r"clients|slots"):
        crowd()

    def leave() -> None:
        for database, one in hogs:
            one.close()
            database.close()

    timer = threading.Timer(0.3, leave)
    timer.start()
    assert opened("busy", server).facts == study.facts
    timer.join()

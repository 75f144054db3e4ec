"""Databases that are not what they should be: each is named in one line, none is altered, nothing finished is lost."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from sqlalchemy import event

from residual.errors import StorageError, UsageError
from residual.tuning.address import Address, after_command, connecting, folder_of, key_of, parse_address, sqlite_file
from residual.tuning.database import Database
from residual.tuning.ledger import Ledger
from residual.tuning.sqlite_file import holder_of, inspect, uri, warn_of_network
from residual.tuning.study import Study, open_study
from tests.tuning.analytic import begin, story, worker

MADE = "made"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study's database at rest."""
    folder = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESIDUAL_RUNS", str(folder / "runs"))
        study = begin(MADE)
        worker(study).run()
        study.database.close()
        assert study.address.file is not None
        return study.address.file


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    place = tmp_path / "runs" / MADE
    place.mkdir(parents=True)
    return Path(shutil.copy(finished, place / "study.sqlite3"))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _zero(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[8192:12288] = bytes(4096)
    file.write_bytes(data)


def _other(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE songs (name)")


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.0.0.a'")
        connection.commit()


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not a database": (lambda file: file.write_text("once upon a time, there was"), "not an SQLite database"),
    "cut": (_cut, "damaged"),
    "a page of zeros": (_zero, "damaged"),
    "another program's": (_other, "another program"),
    "a newer schema": (_newer, "another release of Optuna"),
    "a folder": (_folder, "a folder stands"),
    "only its journal": (lambda file: file.rename(file.with_name(file.name + "-wal")), "its journal is left"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_named_and_left_as_it_is(fault: str, copy: Path) -> None:
    spoil, words = FAULTS[fault]
    spoil(copy)
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir() if path.is_file()}
    with pytest.raises(StorageError, match=words) as caught:
        begin(MADE)
    assert caught.value.remedy
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir() if path.is_file()} == before


def test_a_journal_of_another_file_is_found(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE songs (name)")
        for _ in range(200):
            connection.execute("INSERT INTO songs VALUES (?)", ("x" * 4000,))
        connection.commit()
        shutil.copy(other.with_name("other.sqlite3-wal"), copy.with_name(copy.name + "-wal"))
    before = copy.read_bytes()
    with pytest.raises(StorageError, match=r"damaged|another program"):
        begin(MADE)
    assert copy.read_bytes() == before


def test_a_file_that_may_only_be_read_can_be_shown(copy: Path) -> None:
    address = sqlite_file(copy)
    copy.chmod(0o444)
    ledger = Ledger(Database(address, read_only=True), MADE)
    facts = ledger.facts()
    assert facts is not None
    assert facts["name"] == MADE
    assert open_study(MADE).read().individuals != ()


def test_tables_whose_making_was_cut_short_are_completed(tmp_path: Path) -> None:
    from optuna.storages._rdb import models
    from sqlalchemy import create_engine

    file = tmp_path / "half.sqlite3"
    engine = create_engine(f"sqlite:///{file}")
    models.BaseModel.metadata.tables["studies"].create(engine)
    engine.dispose()
    assert Ledger(Database(sqlite_file(file)), "new").begin({"format": 1}) == {"format": 1}


def test_a_lock_that_is_held_is_waited_for_and_then_named(copy: Path) -> None:
    study = begin(MADE)
    impatient = Ledger(Database(study.address, wait=0.2), MADE)
    with closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StorageError, match="locked by"):
            impatient.facts()
        assert time.monotonic() - began >= 0.2
        other.execute("ROLLBACK")
    assert study.ledger.facts() == impatient.facts()
    assert holder_of(copy) == "another process"


def test_a_full_disk_rolls_back_and_the_study_remains(copy: Path) -> None:
    study = begin(MADE)
    before = story(study.read())

    def limit(connection: Any, record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    study.database.engine.dispose()
    event.listen(study.database.engine, "connect", limit)
    with pytest.raises(StorageError, match="disk is full") as caught:
        study.ledger.same_data({"images": "x" * 1_000_000})
    assert caught.value.exit_code == 5
    assert story(study.read()) == before
    assert study.ledger.facts() == study.facts


@pytest.mark.parametrize(
    "text",
    [
        "mysql+evil://u:hush@h/d",
        "sqlite:///a.db?mode=memory",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite://host/a.db",
        "postgresql://u:hush@h/d?options=-c%20x&sslmode=require",
        "postgresql://u:hush@h:port/d",
        "postgresql://u:hush@h",
        "hush",
        "http://hush",
    ],
)
def test_other_addresses_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text, Path("runs"))
    assert "hush" not in str(caught.value).replace("http", "")


def test_a_password_stands_in_no_words() -> None:
    found = parse_address("postgresql://me:hush@host:5432/base?sslmode=require", Path("runs"))
    assert "hush" not in f"{found} {found!r} {found.shown}"
    assert found.url.password == "hush"
    assert found.hide("so hush it") == "so *** it"


def test_how_long_a_silent_host_is_waited_for_can_be_set_in_the_address() -> None:
    found = parse_address("postgresql://me@host/base?keepalives_idle=60&connect_timeout=2", Path("runs"))
    told = connecting(found.url)
    assert told == {"keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}


NAMES = [
    "plain",
    "with space",
    "'; DROP TABLE studies; --",
    '"quoted"',
    "été-試験-🎓",
    "../../up",
    "nul",
    "a/b\\c",
    "-x",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_literal_text(name: str) -> None:
    study: Study = begin(name)
    assert study.folder.parent == folder_of("plain").parent
    assert len(study.folder.name) <= 80
    assert open_study(name).facts["name"] == name
    assert len(key_of(name)) <= 512
    assert begin("plain").facts["name"] == "plain"
    assert len({folder_of(one) for one in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "\udcff"])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        begin(name)


@pytest.mark.parametrize(
    ("place", "address"),
    [
        (PureWindowsPath(r"\\server\share\a b.sqlite3"), "file:////server/share/a%20b.sqlite3"),
        (PureWindowsPath(r"C:\runs\a.sqlite3"), "file:///C:/runs/a.sqlite3"),
        (PurePosixPath("/runs/a?.sqlite3"), "file:///runs/a%3F.sqlite3"),
    ],
)
def test_the_address_of_a_share_of_windows_names_no_host(place: PurePath, address: str) -> None:
    assert uri(place) == address


def test_a_database_on_a_share_is_asked_for_without_a_host(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(finished), "as_uri", lambda path: f"file://{str(path)[1:]}")
    assert inspect(finished)
    Database(sqlite_file(finished), read_only=True).close()


@pytest.mark.parametrize(("kind", "warned"), [("lustre", 1), ("beegfs", 1), ("fuse.gpfs", 1), ("xfs", 0)])
def test_the_file_systems_of_clusters_are_network_file_systems(
    kind: str, warned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("residual.tuning.sqlite_file.kind_of", lambda folder: kind)
    warn_of_network(tmp_path / "study.sqlite3")
    assert [f"network file system ({kind})" in message for message in caplog.messages] == [True] * warned


@pytest.fixture
def big(tmp_path: Path) -> Address:
    """A study of 20,000 individuals, written row by row."""
    study = begin("big")
    assert worker(study).open_next(study.read())
    study.database.close()
    assert study.address.file is not None
    with closing(sqlite3.connect(study.address.file)) as connection:
        trial = connection.execute("SELECT max(trial_id) FROM trials").fetchone()[0]
        columns = [row[1] for row in connection.execute("PRAGMA table_info(trials)")]
        base = dict(zip(columns, connection.execute("SELECT * FROM trials LIMIT 1").fetchone(), strict=True))
        numbers = range(trial + 1, 20_001)
        rows = [tuple({**base, "trial_id": n, "number": n - 1, "state": "COMPLETE"}.values()) for n in numbers]
        connection.executemany(f"INSERT INTO trials VALUES ({','.join('?' * len(columns))})", rows)
        for table, key in (("trial_params", "param_id"), ("trial_user_attributes", "trial_user_attribute_id")):
            names = [
                row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in (key, "trial_id")
            ]
            parts = connection.execute(f"SELECT {','.join(names)} FROM {table} WHERE trial_id = 1").fetchall()
            connection.executemany(
                f"INSERT INTO {table} (trial_id,{','.join(names)}) VALUES (?{',?' * len(names)})",
                [(n, *part) for n in numbers for part in parts],
            )
        connection.commit()
    return study.address


def test_a_study_of_twenty_thousand_is_read_in_its_share_of_ten_seconds(big: Address) -> None:
    began = time.process_time()
    assert len(open_study("big").read().individuals) == 20_000
    assert time.process_time() - began < 10 * 20_000 / 100_000 * 2  # twice the promise for 100,000, on a slow machine


def test_what_the_system_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="Read-only"):
        Database(sqlite_file(tmp_path / "deep" / "study.sqlite3"))


def test_where_no_database_can_be_made_the_option_that_names_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Database(sqlite_file(tmp_path / "file" / "study.sqlite3"))
    assert "--storage" in caught.value.remedy
    assert "--out" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system that takes no files")
def test_a_folder_that_takes_no_file_is_not_held_to_be_in_use() -> None:
    with pytest.raises(StorageError, match="no file can be made there") as caught:
        Database(sqlite_file(Path("/proc/study.sqlite3")))
    assert "--storage" in caught.value.remedy


def test_a_command_says_where_its_study_is_without_a_password() -> None:
    assert after_command(None) == after_command("") == ""
    assert after_command("sqlite:///a b.db") == " --storage 'sqlite:///a b.db'"
    assert after_command("postgresql://me@host/base") == " --storage postgresql://me@host/base"
    told = after_command("postgresql://me:hush@host/base")
    assert "RESIDUAL_STORAGE" in told
    assert "hush" not in told

"""What every test may ask for: the program as a process, the research data, a cache of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

from tests.warm import Server, possible, warm_popen

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several tests run at once: were each to use every core, they would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
CIFAR_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR_FOLDER, CIFAR_ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
CIFAR_BYTES = 10_000 * (1 + 3 * 32 * 32)

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

# Examples are the same on every machine and every day; a search for new ones is a decision, not an accident.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("steady")


def shared_folder() -> Path | None:
    """The folder with the research data: RESIDUAL_SHARED, else `shared` beside the checkout."""
    folder = Path(os.environ.get("RESIDUAL_SHARED") or ROOT.parent / "shared")
    return folder if (folder / "data" / "cifar10" / "unpack.py").is_file() else None


def pytest_report_header() -> str:
    folder = shared_folder()
    return f"research data: {folder}" if folder else "research data: not here; its tests are skipped (RESIDUAL_SHARED)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cifar" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # none begins when all others are done


def subprocess_environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a process that uses this checkout: plain output; a change to None removes a name."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    wanted: dict[str, str | None] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUTF8": "1",
        "NO_COLOR": "1",
        "FORCE_COLOR": None,
        "COLUMNS": "120",
        **(changes or {}),
    }
    return {name: value for name, value in wanted.items() if value is not None}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; pictures of trainings, which take longer than these, are not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESIDUAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RESIDUAL_PICTURES", "no")
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and studies draw as they do for users."""
    monkeypatch.delenv("RESIDUAL_PICTURES")


@pytest.fixture(scope="session")
def _loaded() -> Iterator[Server]:
    server = Server(subprocess_environment({"OMP_NUM_THREADS": "1"}))
    yield server
    server.close()


@pytest.fixture
def warm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of the program begin with everything loaded, where that is possible: the test is not of its start."""
    if possible():
        monkeypatch.setattr(subprocess, "Popen", warm_popen(request.getfixturevalue("_loaded")))


@pytest.fixture
def residual_cli(tmp_path: Path) -> Cli:
    """`residual_cli("train", "--out", "run")` runs the program in `tmp_path`; its exit code is the test's to judge."""

    def run(
        *arguments: object,
        env: Mapping[str, str | None] | None = None,
        cwd: Path = tmp_path,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "residual", *map(str, arguments)],
            cwd=cwd,
            env=subprocess_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )

    return run


def _is_whole(folder: Path) -> bool:
    files = [folder / name for name in CIFAR_FILES]
    return all(file.is_file() and file.stat().st_size == CIFAR_BYTES for file in files)


@pytest.fixture(scope="session")
def cifar() -> Path:
    """The official `cifar-10-batches-bin`, unpacked once per machine; many test processes may ask at once."""
    fetched = [Path(place) for place in (os.environ.get("RESIDUAL_DATA"), ROOT / "data") if place]
    for folder in (folder for place in fetched for folder in (place, place / CIFAR_FOLDER)):
        if _is_whole(folder):
            return folder
    archive = next((path for place in fetched if (path := place / CIFAR_ARCHIVE).is_file()), None)
    shared = shared_folder()
    if shared is None and archive is None:
        pytest.skip("CIFAR-10 is not here: `residual data fetch cifar-10`, or set RESIDUAL_SHARED")
    place = Path(tempfile.gettempdir()) / "residual-tests-cifar10"
    folder = place / CIFAR_FOLDER
    if _is_whole(folder):
        return folder
    place.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=place))
    try:
        if archive is not None:
            shutil.unpack_archive(archive, temporary, filter="data")
        elif shared is not None:
            command = [sys.executable, str(shared / "data" / "cifar10" / "unpack.py"), str(temporary)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=240)
        if folder.exists() and not _is_whole(folder):
            folder.rename(temporary / "damaged")
        if not folder.exists():
            try:
                (temporary / folder.name).rename(folder)
            except OSError:
                if not _is_whole(folder):  # unless another process was first
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder

"""The run folder: the one file that knows the names on disk. `docs/run-folder.md` is its description.

RUN/run.json          what was asked and what was chosen, written before step 0, never changed
RUN/recipe.toml       the recipe as it was run, readable by `residual train RUN/recipe.toml`
RUN/split.json        the numbers of the held-out images (and of the used ones, under `limit`)
RUN/start/            sealed: the weights a run began from that did not draw its own, as they were before step 0
RUN/records.jsonl     what happened by step; cut back to the checkpoint's length on resume
RUN/sessions.jsonl    who ran it when; only grows
RUN/checkpoints/step-N/   sealed: model.safetensors, model.json, preprocessing, state
RUN/model/            sealed: the final model alone
RUN/result.json       the figures of a finished run
RUN/predictions-SPLIT/    sealed: what the model answers to every image of a split, kept by reports
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from residual.errors import ModelError, StorageError, UsageError, log
from residual.files import (
    FORGOTTEN,
    TEMPORARY,
    Appender,
    Damaged,
    Facts,
    new_folder,
    read_lines,
    read_regular,
    readable,
    remove_folder,
    remove_temporaries,
    replace_file,
    storage,
)
from residual.locks import lock
from residual.runs.places import RUN_FILE, refuse_occupied
from residual.runs.records import last_figures
from residual.sealed import FORMAT, Altered, Unread, put_aside, read_folder, rewrite_folder, seal, write_folder

RUN, RECIPE, SPLIT, RESULT = RUN_FILE, "recipe.toml", "split.json", "result.json"
RECORDS, SESSIONS, LOCK = "records.jsonl", "sessions.jsonl", "lock"
CHECKPOINTS, MODEL, START, CURVES = "checkpoints", "model", "start", "curves.png"
_STEP = "step-"
_JSON_LIMIT, _SPLIT_LIMIT = 1 << 28, 1 << 34  # what is read of a file; split.json names every image


def runs_root() -> Path:
    """Where runs without a name are kept: RESIDUAL_RUNS, else ./runs."""
    return Path(os.environ.get("RESIDUAL_RUNS") or "runs")


class RunFolder:
    """One run on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path = Path(path)
        self.records_path = path / RECORDS
        self.sessions_path = path / SESSIONS
        self.curves_path = path / CURVES
        self.model_path = path / MODEL
        self.start_path = path / START
        self._crowded = False

    def __fspath__(self) -> str:
        """So that a run is taken wherever its path is: `residual.evaluate(run)`."""
        return str(self.path)

    def __repr__(self) -> str:
        if not (self.path / RUN).is_file():
            return f"<RunFolder {self.path}: no run>"
        state = "finished" if (self.path / RESULT).is_file() else "training" if self.at_work() else "not finished"
        return f"<RunFolder {self.path}: {state}>"

    def predictions_path(self, split: str) -> Path:
        return self.path / f"predictions-{split}"

    @property
    def name(self) -> str:
        return self.path.name or str(self.path)

    # -- beginning ---------------------------------------------------------------------------------

    @staticmethod
    def create(
        path: Path, facts: Facts, recipe_toml: str, split: Facts, start: Mapping[str, bytes] | None = None
    ) -> RunFolder:
        """Make the folder with all that is known before step 0: whole or not at all.

        Args:
            start: the files of the model the run begins from, where it draws none of its own.

        Raises:
            UsageError: something stands there already; nothing is ever overwritten.
            StorageError: the disk refused.
        """
        refuse_occupied(path)
        contents: dict[str, bytes | Mapping[str, bytes]] = {
            RUN: readable({"format": FORMAT} | facts),
            RECIPE: recipe_toml.encode(),
            SPLIT: json.dumps(split).encode() + b"\n",
            CHECKPOINTS: {},
        }
        if start is not None:
            contents[START] = seal(start, "model", {"step": 0})
        new_folder(path.resolve() if os.path.islink(path) else path, contents)
        return RunFolder(path)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> RunFolder:
        """An existing run.

        Raises:
            UsageError: there is none here.
            ModelError: a single file was named; whatever is in it, it is not read.
        """
        path = Path(path)
        if path.is_file():
            remedy = "name the folder of a run, a model or a checkpoint"
            raise ModelError("this is a file, and no run or model of this program is one", path, remedy)
        if not (path / RUN).is_file():
            what = "no such run" if not path.exists() else "this folder is not a run: it holds no run.json"
            raise UsageError(what, path, "`residual runs` lists the runs here")
        return RunFolder(path)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every other process from running this run; clear what a killed one left.

        Reports and figures are written beside the run without its lock, so what is young there stays.
        """
        with lock(self.path / LOCK, f"the run {self.name}"):
            if not (self.path / RESULT).is_file():
                remove_temporaries(self.path, FORGOTTEN)
                remove_temporaries(self.path / CHECKPOINTS)
            yield

    def at_work(self) -> bool:
        """Whether a process holds this run now. Its lock is tried only where a holder left its note, shared and for
        a moment, so that a holder notices nothing; where it cannot be tried (Windows), no."""
        if sys.platform == "win32" or not self.path.joinpath(f"{LOCK}.holder").exists():
            return False
        import fcntl

        try:
            descriptor = os.open(self.path / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)
        finally:
            os.close(descriptor)  # which lets go of the lock
        return False

    # -- facts ---------------------------------------------------------------------------------------

    def _json(self, name: str, limit: int = _JSON_LIMIT) -> Facts:
        path = self.path / name
        try:
            value = json.loads(read_regular(path, limit))
        except FileNotFoundError:
            raise ModelError(f"{name} is missing", self.path, "restore it from a copy") from None
        except (ValueError, RecursionError):
            raise ModelError(f"{name} is damaged", self.path, "restore it from a copy") from None
        except OSError as error:
            raise ModelError(f"cannot read {name}: {error.strerror}", self.path, "make it readable") from None
        if not isinstance(value, dict):
            raise ModelError(f"{name} is damaged", self.path, "restore it from a copy")
        return value

    def facts(self) -> Facts:
        facts = self._json(RUN)
        if not isinstance(facts.get("format"), int):
            raise ModelError("run.json is damaged", self.path, "restore it from a copy")
        if facts["format"] > FORMAT:
            raise ModelError(
                f"the run's format {facts['format']} is newer than this program",
                self.path,
                f"install residual {facts.get('residual', '')} or newer",
            )
        return facts

    def split(self) -> Facts:
        return self._json(SPLIT, _SPLIT_LIMIT)

    def recipe_toml(self) -> str:
        try:
            return read_regular(self.path / RECIPE, 1 << 20).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read {RECIPE}: {error}", self.path, "restore it from a copy") from None

    def result(self) -> Facts | None:
        """The figures of a finished run; None while it is not finished."""
        return self._json(RESULT) if (self.path / RESULT).is_file() else None

    def records(self) -> list[Facts]:
        with contextlib.suppress(OSError):
            if self.records_path.stat().st_size > _JSON_LIMIT:
                raise ModelError(f"{RECORDS} is larger than any run's", self.path, "restore it from a copy")
        return read_lines(self.records_path)

    def last_figures(self, splits: Sequence[str]) -> tuple[Facts | None, dict[str, Facts]]:
        """The last record and the last evaluation of each split, read from the end of the file."""
        try:
            return last_figures(self.records_path, splits)
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError, RecursionError):
            self.records()  # says what is wrong, and in which line
            raise ModelError(f"{RECORDS} is damaged", self.path, "restore it from a copy") from None

    def sessions(self) -> list[Facts]:
        return read_lines(self.sessions_path)

    def note_session(self, entry: Facts) -> None:
        """Add a line to the history of sessions."""
        with storage(self.sessions_path):
            before = self.sessions_path.read_bytes() if self.sessions_path.exists() else b""
        book = Appender(self.sessions_path, before.rfind(b"\n") + 1)  # without a last line that was cut by a crash
        book.append(entry)
        book.close()

    # -- checkpoints -----------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, newest first, unverified."""
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in (self.path / CHECKPOINTS).iterdir():
                tail = entry.name.removeprefix(_STEP)
                if tail.isdecimal() and entry.name == self.checkpoint_path(int(tail)).name:
                    found.append(int(tail))
        return sorted(found, reverse=True)

    def checkpoint_path(self, step: int) -> Path:
        return self.path / CHECKPOINTS / f"{_STEP}{step:08d}"

    def save_checkpoint(
        self, step: int, contents: Mapping[str, bytes], facts: Facts, keep: int, replaces: bool = False
    ) -> None:
        """Write the checkpoint of `step`, verify it from disk, then let go of all but the newest `keep`.

        A checkpoint of that step that verifies is left as it is, unless this one `replaces` it, as the last one does
        where a signal came before the last evaluation; one that does not verify is replaced.
        """
        path = self.checkpoint_path(step)
        if path.exists():
            try:
                self._read_checkpoint(step, own=True)
                if not replaces:
                    return
            except Unread:
                put_aside(path)  # it may be whole
            except Damaged:
                pass
        rewrite_folder(path, contents, "checkpoint", facts)
        self._read_checkpoint(step, own=True)
        for old in self.steps()[max(2, keep) :]:
            try:
                remove_folder(self.checkpoint_path(old), patient=False)
            except StorageError as error:  # someone looks into it; no reason to end, and the next save tries again
                if not self._crowded:
                    log.warning("old checkpoints stay, they cannot be removed now: %s (%s)", error.what, error.where)
                self._crowded = True

    def _read_checkpoint(self, step: int, own: bool = False) -> tuple[Facts, dict[str, bytes]]:
        path = self.checkpoint_path(step)
        facts, contents = read_folder(path, "checkpoint", own=own)
        if facts.get("step", step) != step:
            raise Damaged(f"it is the checkpoint of step {facts['step']}", path, "take it away")
        return facts, contents

    def newest_checkpoint(self) -> tuple[Facts, dict[str, bytes]] | None:
        """Facts and files of the newest checkpoint that verifies; None where there was never one.

        Raises:
            ModelError: there are checkpoints, and all are damaged; or the newest may be whole and cannot be read: to
                go on from an older one would cost its steps; or there is none, and the run has written down steps.
        """
        steps = self.steps()
        first: Damaged | None = None
        for step in steps:
            others = [s for s in steps if s < step]
            try:
                return self._read_checkpoint(step)
            except Unread as error:
                what = f"the checkpoint of step {step} may be whole and cannot be used: {error.what}"
                way = f"{error.remedy}; or move that folder away to go on from step {others[0]}" if others else ""
                raise ModelError(what, error.where, way or error.remedy) from None
            except Damaged as error:
                first = first or error
                if others:
                    log.warning("the checkpoint of step %d is set aside, step %d is next: %s", step, others[0], error)
        if first is not None:
            what = f"no checkpoint of this run can be used; of the newest, {first.what}"
            raise ModelError(what, first.where, first.remedy)
        reached = max((int(found.get("step", 0)) for found in (*self.records(), *self.sessions())), default=0)
        if reached > self.facts().get("parent", {}).get("step", 0):  # before the first step there is a checkpoint
            what = f"the checkpoints are gone of a run that had reached step {reached:,}"
            raise ModelError(what, self.path / CHECKPOINTS, "restore that folder, or begin anew with another --out")
        return None

    def models(self) -> list[Path]:
        """Where this run's model may be read, best first: the final one, then the newest checkpoints."""
        final = [self.model_path] if self.model_path.is_dir() else []
        return final + [self.checkpoint_path(step) for step in self.steps()]

    def discard_after(self, step: int) -> None:
        """Take the checkpoints of later steps out of the way of a run that goes on from this one.

        Those whose bytes are wrong are removed; what may be sound is kept under another name.
        """
        for later in self.steps():
            if later > step:
                try:
                    self._read_checkpoint(later)
                except Altered:
                    remove_folder(self.checkpoint_path(later))
                    continue
                except Damaged:
                    pass
                put_aside(self.checkpoint_path(later))

    # -- the end ---------------------------------------------------------------------------------------

    def save_model(self, contents: Mapping[str, bytes], facts: Facts) -> None:
        """Write RUN/model/. Should this be cut in between, the newest checkpoint holds the same model."""
        remove_folder(self.model_path)
        write_folder(self.model_path, contents, "model", facts)

    def save_result(self, result: Facts) -> None:
        replace_file(self.path / RESULT, readable(result))


def create_numbered(stem: str) -> Path:
    """A free name `runs/<stem>-N`, N one above the highest there."""
    root = runs_root()
    highest = 0
    if root.is_dir():
        for entry in root.iterdir():
            tail = entry.name.removeprefix(f"{stem}-")
            if tail != entry.name and tail.isdecimal():
                highest = max(highest, int(tail))
    return root / f"{stem}-{highest + 1}"


def list_runs(root: str | os.PathLike[str] | None = None) -> list[RunFolder]:
    """The runs in a folder, oldest first; without one, those where runs are kept: RESIDUAL_RUNS, else `runs`."""
    found, root = [], runs_root() if root is None else Path(root).expanduser()
    for entry in root.iterdir() if root.is_dir() else ():
        written = _written(entry)
        if written is not None and not entry.name.startswith(TEMPORARY):
            found.append((written, entry.name, entry))
    return [RunFolder(path) for *_, path in sorted(found)]


def _written(path: Path) -> int | None:
    """When a run was begun there, in nanoseconds; None where none stands, or where one may not look."""
    try:
        status = (path / RUN).stat()
    except OSError:
        return None
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None


def find_run(name: str | os.PathLike[str] | None = None) -> RunFolder:
    """The run meant by a path, by a name under the runs folder, or by nothing or `last`: the one last touched.

    Raises:
        UsageError: there is none.
    """
    if name is None or name == "last":
        runs = list_runs(runs_root())
        if not runs:
            raise UsageError("there is no run yet", runs_root(), "`residual train` makes one, or name a run")
        return max(runs, key=_touched)
    name = os.fspath(name)
    try:
        path = Path(name).expanduser()
        if not (path / RUN).is_file() and (runs_root() / name / RUN).is_file():
            path = runs_root() / name
        return RunFolder.open(path)
    except OSError as error:
        raise UsageError(f"no such run: {error.strerror}", name[:200], "`residual runs` lists the runs here") from None
    except RuntimeError:
        raise UsageError("no such run: no such user", name[:200], "`residual runs` lists the runs here") from None


def _touched(run: RunFolder) -> tuple[int, str]:
    times = [p.stat().st_mtime_ns for p in (run.records_path, run.path / RUN) if p.exists()]
    return max(times), run.name

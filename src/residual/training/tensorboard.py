"""What TensorBoard shows of a run: always drawn from its records, live, after a resume, or for a run of long ago.

Scalars by step: `loss`, `error`, `top1`, `top3`, `top5`, each `/training` (running), `/validation` and `/test`;
`rate`, `momentum`; `images per second` of training, evaluations left out. Texts: the recipe, the events of its
schedule. Settings: the table of hyperparameters. The wall time is the start of the run plus its seconds at work.

A file of events is only ever begun with all records so far and then added to; beginning a new one empties the
one before (a TensorBoard at work waits for ever at one that is gone). So a run that was killed and resumed shows
each step once, as its records do. The `tensorboard` package is an extra: without it, or where its folder cannot be
written, training goes on with one line of warning.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from residual.errors import EnvironmentFault, ModelError, ResidualError, log
from residual.files import Facts, storage
from residual.runs.folder import RunFolder
from residual.runs.summary import flat
from residual.training.progress import Listener, Record

FOLDER = "tensorboard"
INSTALL = "pip install tensorboard"
_STEM, _MARK = "events.out.tfevents.", ".residual"  # TensorBoard looks for the first, and reads in order of name
_SHARES = ("top1", "top3", "top5")
_METRICS = ("top1/validation", "top1/test", "loss/validation", "loss/test")


class Point(NamedTuple):
    """A value (a number, or a text) of one series at one step; `seconds` of the run until then."""

    tag: str
    step: int
    seconds: float
    value: float | str


class Points:
    """The points of records, taken in their order."""

    def __init__(self) -> None:
        self._seconds = 0.0  # of the run, at the last line about training
        self._evaluating = 0.0  # since then

    def of(self, record: Record) -> list[Point]:
        step, kind = record["step"], record["kind"]
        if kind == "event":
            text = f"{record['value']:.4g} at step {step}"
            return [Point(f"events/{record['name']}", step, self._seconds + self._evaluating, text)]
        if kind == "kept":
            return []  # figures of another step, which stand there already
        split = "training" if kind == "train" else record["split"]
        own: dict[str, float] = {}
        if kind == "train":
            seconds = record["time"]["seconds"]
            busy = seconds - self._seconds - self._evaluating
            own = {"rate": record["rate"], "momentum": record["momentum"]}
            own |= {"images per second": record["images"] / busy} if busy > 0 else {}
            self._seconds, self._evaluating = seconds, 0.0
        else:
            self._evaluating += record["time"]["seconds"]
        figures = {"loss": record["loss"], "error": 1 - record["top1"], **{name: record[name] for name in _SHARES}}
        values = {f"{name}/{split}": value for name, value in figures.items()} | own
        return [Point(tag, step, self._seconds + self._evaluating, value) for tag, value in values.items()]


class EventFile:
    """A new file of events in `folder` with all that the run's records hold; those before it are emptied.

    Raises:
        EnvironmentFault: the `tensorboard` package is not there.
        StorageError: the folder cannot be written.
        ModelError: the run cannot be read.
    """

    def __init__(self, run: RunFolder, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
            from torch.utils.tensorboard import summary
        except ImportError as error:
            raise EnvironmentFault(f"TensorBoard cannot be used: {error}", FOLDER, INSTALL) from None
        self._summary, self._event = summary, event_pb2.Event
        facts, recipe, records = run.facts(), run.recipe_toml(), run.records()
        try:
            self._began = datetime.fromisoformat(facts["created"]).timestamp()
            settings = {path: _setting(value) for path, value in flat(facts["recipe"]).items() if value is not None}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ModelError("run.json is damaged", run.path, "restore it from a copy") from None
        text = "".join(f"    {line}\n" for line in recipe.splitlines())  # code, in Markdown
        experiment, begun, self._finished = summary.hparams(settings, dict.fromkeys(_METRICS, 0.0))
        self._points = Points()
        with storage(folder):
            self._path, older = _new_name(folder)
            self._file = self._path.open("xb")
        self._records = RecordWriter(self._file)
        try:
            self._write(0, 0.0, file_version="brain.Event:2")
            # A TensorBoard that has read the files before this one lets all it has read of them go.
            self._write(0, 0.0, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
            for content in (summary.text("recipe", text), experiment, begun):
                self._write(0, 0.0, summary=content)
            for record in records:
                self._take(record)
            self._flush()
        except BaseException:
            with suppress(OSError):
                self._file.close()
            raise
        for path in older:
            with suppress(OSError):  # may be refused while TensorBoard reads it, which then obeys the start above
                os.truncate(path, 0)

    def _write(self, step: int, seconds: float, **content: Any) -> None:
        with storage(self._path):
            event = self._event(step=step, wall_time=self._began + seconds, **content)
            self._records.write(event.SerializeToString())

    def _take(self, record: Record) -> None:
        for tag, step, seconds, value in self._points.of(record):
            make: Callable[..., Any] = self._summary.text if isinstance(value, str) else self._summary.scalar
            self._write(step, seconds, summary=make(tag, value))
        if record.get("final"):
            self._write(record["step"], 0.0, summary=self._finished)

    def _flush(self) -> None:
        with storage(self._path):
            self._file.flush()

    def add(self, record: Record) -> None:
        """Write a record that has just come about, so that TensorBoard can read it."""
        self._take(record)
        self._flush()

    def close(self) -> None:
        with storage(self._path):
            self._file.close()


def _new_name(folder: Path) -> tuple[Path, list[Path]]:
    """A name that comes after those of the files of events that are there, and these files; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    older = [path for path in folder.iterdir() if path.name.startswith(_STEM) and path.name.endswith(_MARK)]
    stamps = [int(text) for path in older if (text := path.name[len(_STEM) : -len(_MARK)]).isdecimal()]
    return folder / f"{_STEM}{max([int(time.time()), *(stamp + 1 for stamp in stamps)]):010d}{_MARK}", older


def _setting(value: object) -> float | str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float | str) else str(value)


def write_events(run: RunFolder, folder: Path) -> None:
    """The events of a run, finished or not, in a folder; raises what `EventFile` raises."""
    EventFile(run, folder).close()


class Board:
    """Hands everything on, and writes RUN/tensorboard beside it until that fails; no failure reaches the training."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner
        self.stepped, self.saved = inner.stepped, inner.saved
        self._file: EventFile | None = None

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if self._file is not None:
                with suppress(Exception):
                    self._file.close()
            self._file = None
            reason = error if isinstance(error, ResidualError) else f"{type(error).__name__}: {error}"
            log.warning("nothing more is written for TensorBoard, the training goes on without: %s", reason)

    def began(self, plan: Facts) -> None:
        self._inner.began(plan)
        run = RunFolder(Path(plan["run"]))

        def begin() -> None:
            self._file = EventFile(run, run.path / FOLDER)

        self._try(begin)

    def recorded(self, record: Record) -> None:
        self._inner.recorded(record)
        if (file := self._file) is not None:
            self._try(lambda: file.add(record))

    def ended(self) -> None:
        self._inner.ended()
        if (file := self._file) is not None:
            self._try(file.close)

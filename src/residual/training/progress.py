"""What a run tells while it works: a bar on a terminal, plain lines elsewhere, JSON lines on request.

The loop only calls the five methods of `Listener`; nothing comes back from them.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from residual.errors import UsageError, log
from residual.training.schedules import HALVED, STOPPED

Record = dict[str, Any]
Style = Literal["auto", "bar", "plain", "json", "none"]


class Output(Console):
    """A console that says when its reader has gone; rich itself would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Listener(Protocol):
    def began(self, plan: Record) -> None: ...

    def stepped(self, step: int, images: int) -> None: ...

    def recorded(self, record: Record) -> None: ...

    def saved(self, step: int) -> None: ...

    def ended(self) -> None: ...


class Silent:
    """Says nothing."""

    def began(self, plan: Record) -> None: ...

    def stepped(self, step: int, images: int) -> None: ...

    def recorded(self, record: Record) -> None: ...

    def saved(self, step: int) -> None: ...

    def ended(self) -> None: ...


def _tell_unheard(error: OSError, what: str) -> None:
    if not isinstance(error, BrokenPipeError):  # as after `| head -1`: its reader wants no more
        reason = (error.strerror or type(error).__name__).lower()
        log.warning("standard output cannot be written (%s), the %s goes on without it", reason, what)


def unbroken(tell: Callable[..., None], what: str) -> Callable[..., None]:
    """Hands every call on until standard output cannot be written any more; the work goes on without it."""
    heard = True

    def attempt(*args: Any, **kwargs: Any) -> None:
        nonlocal heard
        if heard:
            try:
                tell(*args, **kwargs)
            except OSError as error:
                heard = False
                _tell_unheard(error, what)

    return attempt


class Unbroken:
    """Hands everything on until standard output cannot be written any more; the training goes on without it."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner

    def _try(self, tell: Callable[[Listener], None]) -> None:
        try:
            tell(self._inner)
        except OSError as error:
            self._inner = Silent()
            _tell_unheard(error, "training")

    def began(self, plan: Record) -> None:
        self._try(lambda inner: inner.began(plan))

    def stepped(self, step: int, images: int) -> None:
        self._try(lambda inner: inner.stepped(step, images))

    def recorded(self, record: Record) -> None:
        self._try(lambda inner: inner.recorded(record))

    def saved(self, step: int) -> None:
        self._try(lambda inner: inner.saved(step))

    def ended(self) -> None:
        self._try(lambda inner: inner.ended())


class JsonLines(Silent):
    """One JSON value per line: the plan, then every record."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def _say(self, value: Record) -> None:
        print(json.dumps(value), file=self._stream, flush=True)

    def began(self, plan: Record) -> None:
        self._say({"kind": "plan", **plan})

    def recorded(self, record: Record) -> None:
        self._say(record)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def passes(epochs: float, step: float = 0.0) -> str:
    """A number of epochs; whole ones as such, though batches seldom end with them.

    Args:
        step: the share of an epoch that a step is: what goes beyond a whole number by less counts as that.
    """
    whole = math.floor(epochs + 1e-9)
    return f"{whole:,}" if epochs - whole < step - 1e-9 else f"{round(epochs, 2):,.2f}".rstrip("0").rstrip(".")


def describe(record: Record) -> str:
    """A record as words, for a line of output."""
    if record["kind"] == "event" and record["name"].startswith(HALVED):
        text = f"out of memory: each batch is computed in {record['value']:.0f} parts from here on: the same gradient"
        return f"step {record['step']}: {text}, though batch normalisation sees one part at a time"
    if record["kind"] == "event" and record["name"] == STOPPED:
        return f"step {record['step']}: patience has ended, the best validation figure stays {record['value']:.4g}"
    if record["kind"] == "event":
        return f"step {record['step']}: {record['name']} ({record['value']:.1%})"
    if record["kind"] == "kept":
        name = f"{record['split']} with the weights of step {record['of_step']:,}, which are kept"
        return f"{name}: loss {record['loss']:.4f}, top-1 {record['top1']:.2%}"
    name = "training (running)" if record["kind"] == "train" else record["split"]
    return f"{name}: loss {record['loss']:.4f}, top-1 {record['top1']:.2%}"


class Plain(Silent):
    """One line per epoch, without control characters."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self._total, self._epochs, self._start, self._first = 1, 0.0, time.monotonic(), 0
        self._step, self._images, self._since = 0, 0, time.monotonic()
        self._paused = False
        self._line = ""

    def began(self, plan: Record) -> None:
        self._total, self._first = plan["steps"], plan["step"]
        self._epochs, self._step = plan["epochs"], plan["step"]
        self._start = self._since = time.monotonic()  # reading the images is no part of the rate

    def stepped(self, step: int, images: int) -> None:
        if self._paused:  # evaluations and a save lay between; this first step is not timed either
            self._paused, self._since = False, time.monotonic()
            images = 0
        self._step, self._images = step, self._images + images

    def recorded(self, record: Record) -> None:
        if record["kind"] == "train":
            self._flush()
            now = time.monotonic()
            rate = self._images / max(1e-9, now - self._since)
            done = max(1, self._step - self._first)
            left = (now - self._start) / done * (self._total - self._step)
            share = self._epochs / self._total
            epochs = f"epoch {passes(record['epoch'], share)}/{passes(self._epochs, share)}"
            head = f"{epochs}, step {self._step:,}/{self._total:,}"
            speed = f"{rate:,.0f} images/s, " if self._images else ""
            self._line = f"{head}; {describe(record)}; {speed}{_clock(left)} left"
            self._images, self._paused = 0, True
        elif record["kind"] == "evaluation" and self._line:
            self._line += f"; {describe(record)}"
        else:
            self._flush()
            self._say(describe(record))

    def _flush(self) -> None:
        if self._line:
            self._say(self._line)
            self._line = ""

    def saved(self, step: int) -> None:
        self._flush()

    def ended(self) -> None:
        self._flush()


class Lines(Plain):
    """Plain lines, each said as soon as its epoch's figures are whole."""

    def stepped(self, step: int, images: int) -> None:
        self._flush()
        super().stepped(step, images)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed * task.fields['batch']:,.0f} images/s" if task.speed else "")


class Bar(Silent):
    """A bar with rate and time left; each epoch's line scrolls above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bar = Progress(
            *columns, _Rate(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True
        )
        self._lines = Lines(lambda line: console.print(line, markup=False, highlight=False))
        self._task = self._bar.add_task("training", total=None, start=False, batch=0)

    def began(self, plan: Record) -> None:
        self._lines.began(plan)
        self._bar.update(self._task, total=plan["steps"], completed=plan["step"], batch=plan["batch_size"])
        self._bar.start_task(self._task)
        self._bar.start()

    def stepped(self, step: int, images: int) -> None:
        self._lines.stepped(step, images)
        self._bar.update(self._task, completed=step, description=f"step {step:,}")

    def recorded(self, record: Record) -> None:
        self._lines.recorded(record)

    def saved(self, step: int) -> None:
        self._lines.saved(step)

    def ended(self) -> None:
        self._lines.ended()
        self._bar.stop()


def sound(listener: Listener | None) -> Listener:
    """The listener, or one that says nothing.

    Raises:
        UsageError: it lacks a method; said before anything is begun.
    """
    if listener is None:
        return Silent()
    names = ("began", "stepped", "recorded", "saved", "ended")
    if lacking := [name for name in names if not callable(getattr(listener, name, None))]:
        what = f"this listener has no method {' and no method '.join(lacking)}"
        raise UsageError(what, "listener", "derive it from residual.Silent, which has all five")
    return listener


def make_listener(style: Style = "auto", stream: TextIO | None = None) -> Listener:
    """The listener for a style; `auto` is a bar on a terminal that can draw one, else plain lines.

    Args:
        stream: where it is said; without it, on standard output.
    """
    if style == "none":
        return Silent()
    if style == "json":
        return JsonLines(stream)
    console = Output(file=stream or sys.stdout)
    if style == "bar" or (style == "auto" and console.is_terminal and not console.is_dumb_terminal):
        return Bar(console)
    return Lines(lambda line: print(line, file=stream, flush=True))

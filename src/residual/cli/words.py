"""What the commands say about a run before it begins and after it ends."""

from __future__ import annotations

import datetime
import json as json_
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from residual.cli.text import Log, printable
from residual.errors import argument
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.training.progress import Listener, Output, Unbroken, make_listener


def console() -> Console:
    """Standard output; tables keep their width when it is not a terminal, so that lines can be searched."""
    found = Output()
    return found if found.is_terminal else Output(width=160, no_color=True)


@contextmanager
def bar(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, on standard error, told what is at work and how much of it is done; elsewhere nothing."""
    from rich.progress import Progress, TaskID

    screen = Output(file=sys.stderr)
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield lambda _what, _done, _all: None
        return
    with Progress(console=screen, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(printable(f"{verb} {Path(what).name}"), total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def points(share: float) -> str:
    """A difference of percentages, which is no percentage itself."""
    return f"{100 * share:.2f} points"


class Announcing:
    """Says what was chosen when the run begins, then hands everything on."""

    def __init__(self, inner: Listener, stream: TextIO | None) -> None:
        self._inner, self._stream = inner, stream
        self.stepped, self.recorded, self.saved, self.ended = inner.stepped, inner.recorded, inner.saved, inner.ended

    def began(self, plan: dict[str, Any]) -> None:
        for line in choices(RunFolder(Path(plan["run"])).facts(), plan):
            print(printable(line), file=self._stream, flush=True)
        self._inner.began(plan)


def telling(log: Log, json: bool, announced: bool = False) -> Listener:
    """What tells of a training: on standard error where standard output is for one JSON value.

    Args:
        announced: what was chosen is said first, unless the lines are for a program.
    """
    stream = sys.stderr if json else None
    listener = make_listener(log, stream)
    return Unbroken(Announcing(listener, stream) if announced and log != "json" else listener)


def choices(facts: Facts, plan: dict[str, Any]) -> list[str]:
    """What a run is, in a few lines."""
    recipe, data, chosen, reasons = facts["recipe"], facts["data"], facts["chosen"], facts["reasons"]
    changed = "".join(f", {path}={value}" for path, value in facts["changed"].items())
    verb = f"going on at step {plan['step']:,}" if plan["step"] else "starting"
    return [
        f"run      {plan['run']}: {verb} of {plan['steps']:,}",
        f"recipe   {recipe['name']}{changed}, seed {recipe['seed']}",
        f"network  {facts['network']['name']}, shortcut {facts['network']['shortcut']}, "
        f"{len(data['class_names'])} classes{_counted(facts)}",
        f"data     {data['name']} ({data['origin']}): "
        f"{data['training']:,} training, {data['validation']:,} validation, {data['test'] or 'no'} test images",
        *start_lines(facts),
        *(f"settled  {path} {value} ({reasons[path]})" for path, value in facts.get("settled", {}).items()),
        *_fitted(facts, plan),
        f"compute  {chosen['device']} ({reasons['device']}), {chosen['precision']} ({reasons['precision']}), "
        f"{chosen['layout']}, threads {chosen['threads']}{_compiled(chosen, reasons)}{_processes(chosen)}",
    ]


def _compiled(chosen: Facts, reasons: Facts) -> str:
    """Whether the network is compiled, where the recipe leaves that open or asks for it."""
    if "compile" not in reasons:
        return ""
    return f", {'compiled' if chosen.get('compile') else 'not compiled'} ({reasons['compile']})"


def _fitted(facts: Facts, plan: dict[str, Any]) -> list[str]:
    """What trials before step 0 have chosen, and when a run with a budget will end."""
    if parent := facts.get("parent"):
        return [f"extends  {parent['run']}, which ended at step {parent['step']:,}: {facts['reasons']['schedule']}"]
    own = [path for path in facts["changed"] if path in facts["reasons"] and path not in facts.get("settled", {})]
    lines = [f"chosen   {path} {facts['changed'][path]} ({facts['reasons'][path]})" for path in own]
    budget = facts["chosen"].get("budget")
    if budget is not None and plan["step"] == 0:
        ends = datetime.datetime.fromisoformat(budget["ends"]).astimezone()
        lines.append(f"ends     about {ends:%H:%M:%S} on {ends:%d %B}, if the machine stays as free as it was just now")
    return lines


def start_lines(facts: Facts) -> list[str]:
    """The weights a run began from, what was done to them, and what of them learns."""
    start = facts.get("start")
    if not start:
        return []
    at = f", step {start['step']:,}" if start.get("step") else ""
    first = f"weights  {start['weights']} ({start['network']}{at}, SHA-256 {start['sha256'][:16]}...)"
    return [first, *(f"         {words}" for words in (*start["said"], *start["learns"]))]


def _processes(chosen: Facts) -> str:
    """How many processes a run was begun with, where these are several."""
    return f", {chosen['processes']} processes" if chosen.get("processes", 1) > 1 else ""


def _counted(facts: Facts) -> str:
    """The stem and what one image costs; nothing for a run of a release that did not count."""
    from residual.models.stems import describe_stem

    counted = facts.get("counted")
    if counted is None:
        return ""
    height, width = counted["image_size"]
    return (
        f", {describe_stem(facts['network']['stem'])} for images of {height} x {width} pixels: "
        f"{counted['multiply_adds']:,} multiply-adds an image, {counted['parameters']:,} parameters"
    )


def scores_table(title: str, rows: list[tuple[str, Facts]], classes: int) -> Table:
    """Loss and top-1/3/5, a row for each split; without those that as many answers as there are classes always hit."""
    tops = [k for k in (1, 3, 5) if k == 1 or k < classes]
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("split")
    for name in ("images", "loss", *(f"top-{k}" for k in tops)):
        table.add_column(name, justify="right")
    for split, scores in rows:
        shares = [percent(scores[f"top{k}"]) for k in tops]
        table.add_row(split, f"{scores['images']:,}", f"{scores['loss']:.4f}", *shares)
    return table


def say_result(folder: RunFolder, log: str) -> None:
    """The final figures and what to do next; for a program, the result as one line."""
    result = folder.result()
    if result is None:
        return
    if log == "json":
        print(json_.dumps({**result, "kind": "result", "run": str(folder.path)}), flush=True)
        return
    facts = folder.facts()
    rows, best, length = list(result["final"].items()), result.get("best"), facts["chosen"]["steps"]
    if best is not None:
        rows += [(f"{split}, step {best['step']:,}: kept", best[split]) for split in result["final"] if split in best]
    early = "" if result["steps"] == length else f" of {length:,} (patience ended)"
    title = f"finished: step {result['steps']:,}{early}, single view, {result['seconds']:.0f} s"
    if rows:
        console().print(scores_table(title, rows, len(facts["data"]["class_names"])))
    else:
        print(title.replace(", single view", ""))
    if "test" not in result["final"]:
        why = "the test images were not read" if result["data"]["test"] else "there are no test images"
        held = "the figure is that of the held-out validation images" if rows else "and none are held out: no figure"
        print(f"{why}{':' if rows else ''} {held}")
    if folder.curves_path.exists():
        print(printable(f"curves   {folder.curves_path}"))
    print(printable(f"model    {folder.model_path}"))
    judged = "" if rows or result["data"]["test"] else " --data OTHER_IMAGES"
    print(printable(f"next     residual evaluate {argument(folder.path)}{judged}"))
    print(printable(f"         residual report {argument(folder.path)}"))
    print(printable(f"         residual predict {argument(folder.path)} IMAGE_OR_FOLDER"))

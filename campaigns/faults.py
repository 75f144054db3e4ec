"""The N-th write, fsync, rename or mkdir fails (EIO, ENOSPC, kill -9), for N = 1, 2, ... until the run is untouched.

After every fault: a refused call costs one line and exit code 5, never a traceback; whatever checkpoint
had been saved is there and whole; and the run, resumed without faults, ends bit for bit as if nothing had
happened. A failing write writes half of its bytes first, as a full disk does. Each case is a forked child
of a process that has everything imported. The picture of the curves is left out: it is drawn after the run
has its result, and a failure to draw is a warning.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from campaigns.running import fingerprint, require, unlike, write_result
from residual.cli.main import run as command_line
from residual.files import TEMPORARY, Facts
from residual.runs.folder import RunFolder

TINY = (
    *("train", "digits", "--log", "plain", "--set", "network.name=resnet-8", "--set", "network.widths=[4,4,4]"),
    *("--set", "data.limit=100", "--set", "batch_size=30", "--set", "steps=6", "--set", "checkpoint.every_steps=2"),
    *("--set", "compute.threads=1", "--set", "compute.precision=float32"),
)
CALLS = {"write": ("write",), "fsync": ("fsync",), "rename": ("rename", "replace"), "mkdir": ("mkdir",)}
KINDS = ("EIO", "ENOSPC", "kill")


class Saboteur:
    """Makes the `number`-th call of a kind fail, in this process."""

    def __init__(self, call: str, number: int, kind: str) -> None:
        self.call, self.number, self.kind, self.count = call, number, kind, 0

    def install(self) -> None:
        for name in CALLS[self.call]:
            setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count != self.number:
                return real(*arguments, **options)
            if self.call == "write":
                descriptor, data = arguments
                real(descriptor, bytes(data)[: len(data) // 2])
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(getattr(errno, self.kind), os.strerror(getattr(errno, self.kind)))

        return wrapped


def _undrawn() -> AbstractContextManager[object]:
    return mock.patch("residual.cli.drawing.draw_run")


def in_child(arguments: tuple[str, ...], saboteur: Saboteur | None = None) -> Facts:
    """Run a command in a forked child; what it printed, its exit code, the steps it saved, whether the fault struck."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        # The report must get out whatever is made to fail, so it goes around the sabotaged functions.
        send, words, code = os.write, io.StringIO(), 70
        try:
            real_save = RunFolder.save_checkpoint

            def save(self: RunFolder, step: int, *rest: Any) -> None:
                real_save(self, step, *rest)
                send(writer, f"{step}\n".encode())

            if saboteur is not None:
                saboteur.install()
            noted = mock.patch.object(RunFolder, "save_checkpoint", save)
            with noted, _undrawn(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(words):
                code = command_line(arguments)
        except BaseException:
            words.write(traceback.format_exc())
        finally:
            struck = saboteur is not None and saboteur.count >= saboteur.number
            send(writer, json.dumps({"words": words.getvalue(), "struck": struck}).encode())
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().decode().split("\n")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    report: Facts = json.loads(lines[-1]) if lines[-1] else {"words": "", "struck": True}
    return report | {"code": code, "saved": [int(line) for line in lines[:-1]]}


def one_case(call: str, number: int, kind: str, reference: dict[str, str], place: Path) -> tuple[bool, list[str]]:
    """One fault and what it broke. Returns whether it struck, and the promises that were not kept."""
    run = place / f"{call}-{number}-{kind}"
    report = in_child((*TINY, "--out", str(run)), Saboteur(call, number, kind))
    if not report["struck"]:
        shutil.rmtree(run)
        return False, []
    broken = []
    errors = [line for line in report["words"].splitlines() if line.startswith("error: ")]
    if kind == "kill":
        if report["code"] != -signal.SIGKILL:
            broken.append(f"ended with {report['code']}")
    elif not (report["code"] == 5 and len(errors) == 1) and not (report["code"] == 0 and not errors):
        broken.append(f"ended with {report['code']} and {len(errors)} error lines")
    if "Traceback" in report["words"]:
        broken.append("traceback")
    broken += _unsound(run, report["saved"])
    again = ("train", "--resume", str(run), "--log", "plain") if run.exists() else (*TINY, "--out", str(run))
    if in_child(again)["code"] != 0:
        broken.append("does not resume")
    else:
        broken += unlike(reference, run)
        left = [p.name for p in run.rglob(f"{TEMPORARY}*")]
        broken += [f"left behind: {left}"] if left else []
    shutil.rmtree(run, ignore_errors=True)
    return True, broken


def _unsound(run: Path, saved: list[int]) -> list[str]:
    if not run.exists():
        return ["the run folder is gone"] if saved else []
    try:
        found = RunFolder.open(run).newest_checkpoint()
    except Exception as error:
        return [f"no valid checkpoint: {error}"]
    if saved and (found is None or found[0]["step"] < saved[-1]):
        return [f"the checkpoint of step {saved[-1]} is lost"]
    return []


def sweep(stride: int = 1, kinds: tuple[str, ...] = KINDS) -> Facts:
    """Every `stride`-th call of each kind made to fail in each way, until the run is untouched."""
    place = Path(tempfile.mkdtemp(prefix="residual-faults-"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked child must not wait for threads that stayed with its parent
    rows: dict[str, Facts] = {}
    broken: dict[str, list[str]] = {}
    try:
        # In this process, so that all that a run imports is there before the forks.
        with _undrawn(), contextlib.redirect_stdout(io.StringIO()):
            if command_line((*TINY, "--out", str(place / "whole"))) != 0:
                raise RuntimeError("the run without a fault failed")
        reference = fingerprint(place / "whole")
        for call in CALLS:
            for kind in kinds:
                cases, number = 0, 1
                while True:
                    struck, wrong = one_case(call, number, kind, reference, place)
                    if not struck:
                        break
                    cases += 1
                    if wrong:
                        broken[f"{call} {number} {kind}"] = wrong
                        print(f"{call} {number} {kind}: {wrong}", flush=True)
                    number += stride
                rows[f"{call} {kind}"] = {"cases": cases, "untouched_from": number}
                print(f"{call} {kind}: {cases} cases", flush=True)
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(place, ignore_errors=True)
    cases = sum(row["cases"] for row in rows.values())
    return {"stride": stride, "cases": cases, "sound": cases - len(broken), "by_call": rows, "broken": broken}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign faults", description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = sweep(options.stride)
    write_result("faults", found, began)
    return require(found["sound"], found["cases"], "faults met without loss")

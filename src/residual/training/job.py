"""`python -m residual.training.job FILE`: train the run that FILE describes, in the processes of a launcher.

This is what `launching.py` gives a launcher to start. Every process reads FILE; rank 0 says each record as a JSON line
on standard output and leaves an answer in FILE.answer. When the reader of the job is gone, which shows in the end of
standard input, the run is saved and all end.

The exit code is 0 where an answer cannot change: a launcher starts processes again that end with another one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from residual.errors import InUse, ResidualError, lacks_memory
from residual.files import Facts, read_regular, readable, replace_file
from residual.launch import speaks
from residual.training.progress import JsonLines, Listener, Silent, Unbroken
from residual.training.recipe import to_recipe
from residual.training.signals import own_process
from residual.training.train import resume, train

MOST_BYTES = 1 << 24
FINAL = (2, 3, 4, 7)
"""Exit codes of what a second attempt meets again: settings, data, models, values that are not finite."""


def answer_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.answer")


def main(argv: list[str]) -> int:
    """Train the run of the job named first; the exit code."""
    if len(argv) != 1:
        print("error: one job file is needed: `residual tune --launch` writes and starts it", file=sys.stderr)
        return 2
    path, first = Path(argv[0]), speaks()
    if first:
        threading.Thread(target=_end_with_reader, daemon=True, name="residual-reader").start()
    with own_process():
        answer = _trained(json.loads(read_regular(path, MOST_BYTES)), Unbroken(JsonLines()) if first else Silent())
    if first:
        replace_file(answer_of(path), readable(answer))
    if answer["code"]:
        print(f"error: {answer['text']}", file=sys.stderr, flush=True)
    return 0 if answer["code"] in FINAL or answer["memory"] else int(answer["code"])


def _trained(job: Facts, listener: Listener) -> Facts:
    """What came of a job: code 0, or the words and the exit code of what ended it."""
    changes, own = ([(path, value) for path, value in job[name]] for name in ("changes", "own"))
    try:
        if job["begun"]:
            resume(job["out"], set=own, override_safe=True, listener=listener)
        else:
            recipe = to_recipe(job["recipe"], "the job")
            train(recipe, set=[*changes, *own], out=job["out"], listener=listener, command=job["command"])
    except ResidualError as error:
        parts = {"what": error.what, "where": error.where, "remedy": error.remedy, "text": str(error)}
        held = isinstance(error, InUse)
        return {**parts, "code": error.exit_code, "memory": lacks_memory(error), "held": held}
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        parts = {"what": text, "where": "", "remedy": "lower the batch size", "text": text}
        return {**parts, "code": 6, "memory": True}
    return {"code": 0, "memory": False}


def _end_with_reader() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    signal.raise_signal(signal.SIGTERM)  # os.kill would end the process at once on Windows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

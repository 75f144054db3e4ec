"""What the campaigns share: runs as processes of their own, their fingerprints, result files.

A fingerprint holds all that an exact resume must reproduce: the bytes of weights, optimiser and
running sums, and the records without their times.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from residual.environment import machine, versions
from residual.files import Facts, canonical, digest, readable, replace_file
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.studies.seeds import Spread

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PYTHON = (sys.executable, "-m", "residual")


def environment() -> dict[str, str]:
    """The environment of a process that runs this checkout."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def start(arguments: Sequence[str], program: Sequence[str] = PYTHON) -> subprocess.Popen[str]:
    """Start a command of the program with its output kept."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*program, *arguments], env=environment(), stdout=pipe, stderr=pipe, text=True)


def finish(arguments: Sequence[str], program: Sequence[str] = PYTHON) -> float:
    """Run a command of the program to its end; returns the seconds it took.

    Raises:
        RuntimeError: it failed; holds what it printed.
    """
    began = time.monotonic()
    process = start(arguments, program)
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}:\n{out[-2000:]}\n{err[-2000:]}")
    return time.monotonic() - began


def fingerprint(run: Path) -> dict[str, str]:
    """SHA-256 of the final weights, of the state beside them, and of the records without their times.

    The files are read as they lie there, so that a saver without manifests can be examined too.
    """
    folder = RunFolder.open(run)
    newest = folder.checkpoint_path(folder.steps()[0])
    contents = {path.name: path.read_bytes() for path in newest.iterdir()}
    state = json.loads(contents["state.json"])
    facts = {"step": state["step"], "parts": state["parts"]}
    return {
        "weights": digest(contents["model.safetensors"]),
        "final model": digest((folder.model_path / "model.safetensors").read_bytes()),
        "optimiser and sums": digest(contents["state.safetensors"]),
        "facts": digest(canonical(facts)),
        "records": digest(canonical(timeless(folder.records()))),
    }


def unlike(reference: Mapping[str, str], run: Path) -> list[str]:
    """What of a run differs from the reference; empty where nothing does."""
    own = fingerprint(run)
    return [name for name, value in reference.items() if own.get(name) != value]


def cifar_folder() -> str:
    """Where CIFAR-10 is.

    Raises:
        DataError: it is nowhere this program looks; a campaign needs it.
    """
    from residual.data.datasets import DataSettings, open_dataset

    return str(Path(open_dataset(DataSettings(dataset="cifar-10")).origin).resolve())


_PROVENANCE = ("command", "date", "seconds", "versions", "machine")


def write_result(name: str, value: Facts, began: float, kept: Facts | None = None) -> Path:
    """Write `results/<name>.json`: the value with command, date, versions and machine.

    Args:
        kept: an earlier file of which parts are in the value; how they came about is kept under `earlier`.
    """
    head: Facts = {
        "format": 1,
        "kind": "campaign",
        "campaign": name,
        "command": f"make campaign {name}" + (f' ARGS="{" ".join(sys.argv[2:])}"' if sys.argv[2:] else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "versions": versions(),
        "machine": machine(),
    }
    if kept is not None:
        told = {word: kept[word] for word in _PROVENANCE}
        others = [one for one in kept.get("earlier", []) if one["command"] != head["command"]]
        head["earlier"] = [*others, *([told] if told["command"] != head["command"] else [])]
    path = RESULTS / f"{name}.json"
    replace_file(path, readable(head | value))
    print(f"written: results/{name}.json")
    return path


def require(share: int, whole: int, what: str) -> int:
    """Exit code 0 where all is as promised, else 1, said in words."""
    print(f"{what}: {share} of {whole}")
    return 0 if share == whole else 1


def trained(run: Path, arguments: Sequence[str], data: str) -> Facts:
    """The result of the run in `run`: begun, gone on with (wherever the data lies now), or already there."""
    again = (
        ["--resume", str(run), "--data", data]
        if (run / "run.json").is_file()
        else [*arguments, "--data", data, "--out", str(run)]
    )
    with subprocess.Popen([*PYTHON, "train", *again], env=environment()) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                continue  # the run has heard it too, and saves
    if code != 0:
        raise SystemExit(code)  # it has said why
    result = RunFolder.open(run).result()
    if result is None:
        raise RuntimeError(f"{run} did not finish")
    return result


def spread(values: Sequence[float]) -> Facts:
    """Mean and sample standard deviation, and the values."""
    return Spread.of(values).as_dict()

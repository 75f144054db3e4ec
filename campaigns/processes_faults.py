"""What goes wrong with several processes, and how they must end: with these codes, in these words, in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from campaigns.launching import PROGRAM, SMALL, Ended, free_port, process, together, words
from residual.errors import ResidualError
from residual.evaluation.use import read_classifier
from residual.files import Facts

STEPS = ("--set", "steps=27")
HASTE = ("--set", "processes.timeout=4")
LONGEST = 100.0
"""Seconds after which even the last of them must have ended, the start of two Pythons included."""


class Case(NamedTuple):
    """What came of a fault: how each process ended, and what each must say."""

    ended: list[Ended]
    codes: list[int]
    said: tuple[str, ...]


def _small(run: Path, *more: str) -> list[str]:
    return [*PROGRAM, *SMALL, *STEPS, *more, "--out", str(run)]


def _sabotaged(deed: str, codes: list[int], *said: str, more: tuple[str, ...] = ()) -> Callable[[Path], Case]:
    def case(place: Path) -> Case:
        return Case(together([_small(place / "run", *more)] * 2, place / "samples", deed), codes, said)

    return case


def _another_recipe(place: Path) -> Case:
    commands = [_small(place / "run"), _small(place / "run", "--seed", "1")]
    return Case(together(commands, place / "samples"), [2, 2], ("rank 1: another recipe", "seed 1 and not 0"))


def _another_data_set(place: Path) -> Case:
    commands = []
    for rank in range(2):
        pixels = np.random.default_rng(rank)
        for name in ("cats", "dogs"):
            (place / f"photos-{rank}" / name).mkdir(parents=True)
            for number in range(12):
                image = Image.fromarray(pixels.integers(0, 255, (32, 32, 3), dtype=np.uint8))
                image.save(place / f"photos-{rank}" / name / f"{number}.png")
        words = ["train", f"{place}/photos-{rank}/", "--progress", "plain", *STEPS, "--set", "batch_size=4"]
        commands.append([*PROGRAM, *words, "--out", str(place / "run")])
    # The place may differ from machine to machine, the files may not.
    return Case(together(commands, place / "samples"), [3, 3], ("rank 1: another data set than rank 0 has",))


def _an_odd_batch(place: Path) -> Case:
    commands = [[word.replace("batch_size=48", "batch_size=33") for word in _small(place / "run")]] * 2
    return Case(together(commands, place / "samples"), [2, 2], ("a batch of 33 cannot be shared equally by 2",))


def _port_in_use(place: Path) -> Case:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = together([_small(place / "run", *HASTE)] * 2, place / "samples", port=port)
    return Case(ended, [6, 6], (f"{port}",))


def _missing(rank: int, what: str) -> Callable[[Path], Case]:
    def case(place: Path) -> Case:
        present = 1 - rank
        one = process(_small(place / "run", *HASTE), place / "samples", "", words(present, 2, free_port()))
        return Case([Ended(one.wait(LONGEST), *one.communicate())], [6], (what,))

    return case


FAULTS: dict[str, Callable[[Path], Case]] = {
    "not finite on one rank": _sabotaged("nan:1:7", [7, 7], "the loss is not finite at step 7 on rank 1 of 2"),
    "a rank hangs": _sabotaged("hang:1:7", [6, 6], "rank 1 of 2 hangs: for 4 s", more=HASTE),
    "a rank is killed": _sabotaged("kill:1:7", [6, -9], "rank 1 of 2 is gone"),
    "rank 0 is killed": _sabotaged("kill:0:7", [-9, 6], "rank 0"),
    "rank 0 cannot write": _sabotaged("disk:0:9", [5, 5], "rank 0: cannot write"),
    "one rank hears SIGTERM": _sabotaged("term:1:7", [143, 143], "stopped by SIGTERM at step 8 of 27, all of it saved"),
    "another version": _sabotaged("version:1:0", [6, 6], "rank 1: other versions than rank 0 has: torch 2.0.0 and not"),
    "another recipe": _another_recipe,
    "another data set": _another_data_set,
    "a batch that cannot be shared": _an_odd_batch,
    "the port is in use": _port_in_use,
    "rank 1 never comes": _missing(1, "rank 1 of 2 did not come within 4 s"),
    "rank 0 cannot be reached": _missing(0, "rank 1 cannot reach rank 0 within 4 s"),
}


def fault(title: str, place: Path) -> Facts:
    """Let it happen, and see that every process alive ends with its code and one line, in time, and nothing is lost."""
    folder = place / title.replace(" ", "-")
    folder.mkdir()
    began = time.monotonic()
    case = FAULTS[title](folder)
    seconds = time.monotonic() - began
    faults = []
    if [one.code for one in case.ended] != case.codes:
        faults.append(f"codes {[one.code for one in case.ended]}")
    for one in case.ended:
        lines = [line for line in one.err.splitlines() if not line.startswith("warning: ")]
        if one.code >= 0 and (len(lines) != 1 or not lines[0].startswith("error: ")):
            faults.append(f"said {one.err[-600:]!r}")
        elif one.code >= 0 and not all(part in lines[0] for part in case.said):
            faults.append(f"said {lines[0]!r}")
    if seconds > LONGEST:
        faults.append(f"took {seconds:.0f} s")
    if (folder / "run").exists():
        try:
            read_classifier(folder / "run")  # the newest checkpoint is whole and finite
        except ResidualError as error:
            faults.append(str(error))
    row = {"codes": case.codes, "says": list(case.said), "seconds": round(seconds, 1), "faults": faults}
    print(f"{title}: {faults or 'as it should'} ({seconds:.0f} s)", flush=True)
    return {**row, "sound": not faults}

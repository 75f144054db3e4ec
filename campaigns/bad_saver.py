"""The program with a deliberately bad saver: the negative control of the kill campaign.

It saves as many trainers do: one folder under its final name, written in place, the former content
gone first, no checksum on reading. Writes pause a little between blocks, as those of a slow disk do.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from residual import files, sealed
from residual.cli.main import run
from residual.files import Facts
from residual.runs import folder as folders

BLOCK, PAUSE = 4096, 0.004


def write_in_place(folder: Path, contents: Mapping[str, bytes], kind: str, facts: Facts) -> None:
    for old in folder.parent.glob("step-*"):
        shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sealed.MANIFEST).write_bytes(files.canonical({"facts": facts, "kind": kind}))
    for name, data in contents.items():
        with (folder / name).open("wb") as file:
            for place in range(0, len(data), BLOCK):
                file.write(data[place : place + BLOCK])
                file.flush()
                time.sleep(PAUSE)


def read_unverified(folder: Path, kind: str, own: bool = False) -> tuple[Facts, dict[str, bytes]]:
    import json

    facts: Facts = json.loads((folder / sealed.MANIFEST).read_bytes())["facts"]
    return facts, {p.name: p.read_bytes() for p in folder.iterdir() if p.name != sealed.MANIFEST}


SAVER = dict.fromkeys(("write_folder", "rewrite_folder"), write_in_place) | {"read_folder": read_unverified}

if __name__ == "__main__":
    vars(folders).update(SAVER)
    sys.exit(run(sys.argv[1:]))

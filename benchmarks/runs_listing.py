"""How long `residual runs` takes for 1,000 runs of 100 records, and for 10: seconds with start-up, and their ratio.

The runs are one real run of the digits under many names, its files linked, every fourth one without a result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from campaigns.running import finish, write_result
from residual.files import Facts
from residual.runs.folder import RunFolder

TRAIN = (
    *("train", "digits", "--log", "plain", "--set", "network.name=resnet-8", "--set", "network.widths=[4,4,4]"),
    *("--set", "data.limit=100", "--set", "batch_size=30", "--set", "evaluation.every_epochs=0.3333"),
)


def make_one(folder: Path, records: int) -> RunFolder:
    """A run with at least so many records."""
    finish([*TRAIN, "--set", f"steps={records // 2}", "--out", str(folder)])
    return RunFolder.open(folder)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def multiply(run: RunFolder, root: Path, count: int) -> None:
    """The run under `count` names in `root`; every fourth is not finished."""
    for number in range(count):
        left_out = ("result.json", "model") if number % 4 == 3 else ()
        copy = root / f"digits-{number + 1}"
        shutil.copytree(run.path, copy, copy_function=_link, ignore=shutil.ignore_patterns(*left_out))


def measure(run: RunFolder, root: Path, many: int, rounds: int) -> Facts:
    """Seconds of the table and of --json, for 10 runs and for many in `root`, turn by turn."""
    for count in (10, many):
        multiply(run, root / str(count), count)
    taken: dict[str, dict[int, list[float]]] = {"table": {10: [], many: []}, "json": {10: [], many: []}}
    for _ in range(rounds):
        for form, by_count in taken.items():
            for count, seconds in by_count.items():
                seconds.append(finish(["runs", str(root / str(count)), *(["--json"] if form == "json" else [])]))
    found: Facts = {"runs": many, "records": len(run.records()), "rounds": rounds}
    for form, by_count in taken.items():
        few, all_ = (statistics.median(by_count[count]) for count in (10, many))
        found[form] = {"seconds": all_, "seconds for 10": few, "ratio": all_ / few, "values": by_count[many]}
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="runs-listing", description="seconds of `residual runs`, 1,000 runs and 10")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trial", action="store_true", help="write no result file")
    given = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = measure(make_one(root / "one", 100), root, given.runs, given.rounds)
    for form in ("table", "json"):
        row = found[form]
        print(
            f"{form}: {row['seconds']:.2f} s for {given.runs:,} runs, {row['seconds for 10']:.2f} s for 10: "
            f"{row['ratio']:.1f} times as long"
        )
    if not given.trial:
        write_result("runs-listing", found, began)
    return 0


if __name__ == "__main__":
    sys.argv.insert(1, "runs-listing")  # as `make campaign runs-listing` gives it
    sys.exit(main(sys.argv[2:]))

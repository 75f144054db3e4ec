"""`residual study cost`, `residual study cifar-10` and `residual study find-rate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from residual.cli.study_asked import say_evidence
from residual.cli.text import Whole, printable

if TYPE_CHECKING:
    from residual.studies.evidence import Evidence


def cost(*, turns: Whole = 5, out: str | None = None, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Multiply-adds and measured time of networks by depth, and of VGG-19 beside ResNet-34, on this processor.

    Parameters
    ----------
    turns
        How often every network is timed.
    out
        The folder of the result file and its figure; without it, runs/cost.
    json
        The result file's content as JSON.
    """
    from residual.errors import UsageError
    from residual.studies.cost import study_cost

    if turns < 1:
        raise UsageError(f"{turns} turns measure nothing", "--turns", "give 1 or more")
    return _say(study_cost(f"residual study cost --turns {turns}", turns), out, json)


def cifar10(
    *, data: str | None = None, out: str | None = None, json: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Count the images and classes of CIFAR-10's official files.

    Parameters
    ----------
    data
        Where they are, if not in a usual place.
    out
        The folder of the result file; without it, runs/cifar-10.
    json
        The result file's content as JSON.
    """
    from residual.studies.cost import study_cifar10

    return _say(study_cifar10("residual study cifar-10", data), out, json)


def rates(
    *,
    seeds: Whole = 2,
    data: str | None = None,
    device: str | None = None,
    out: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Range tests of the network of seed 001 on CIFAR-10, with its optimiser (Adam) and with SGD.

    Parameters
    ----------
    seeds
        How many seeds.
    data
        Where the images are, if not in a usual place.
    device
        auto, cpu, mps, cuda or cuda:N.
    out
        The folder of the result file and its figure; without it, runs/find-rate.
    json
        The result file's content as JSON.
    """
    from residual.cli.asked import asked
    from residual.errors import UsageError
    from residual.studies.rates import study_rates

    if seeds < 1:
        raise UsageError(f"{seeds} seeds are no study", "--seeds", "give 1 or more")

    def tell(optimiser: str, seed: int) -> None:
        if not json:
            print(f"{optimiser}, seed {seed}", flush=True)

    changes = asked(None, data=data, device=device)
    return _say(
        study_rates(range(seeds), set=changes, command=f"residual study find-rate --seeds {seeds}", tell=tell),
        out,
        json,
    )


def _say(evidence: Evidence, out: str | None, json: bool) -> int:
    from residual.runs.folder import runs_root

    folder = runs_root() / evidence.study if out is None else Path(out).expanduser()

    def tell() -> None:
        for name, value in evidence.measured.items():
            if evidence.study == "find-rate":
                words = ", ".join(f"{label} {found['mean']:.2g}" for label, found in value.items()) or "no suggestion"
                print(printable(f"{name:<6} {words}"))
            elif isinstance(value, dict):
                time = 1000 * value["seconds"]["median"]
                print(printable(f"{name:<12} {value['multiply_adds']:>16,} multiply-adds {time:>10.2f} ms an image"))
            else:
                print(printable(f"{name:<22} {value:,}"))

    return say_evidence(evidence, folder, json, tell)

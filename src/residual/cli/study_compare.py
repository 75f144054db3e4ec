"""`residual study compare`."""

from __future__ import annotations

import json as json_
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter

from residual.cli.asked import asked
from residual.cli.text import Number, Whole, printable

if TYPE_CHECKING:
    from residual.files import Facts
    from residual.studies.comparison import Labour

Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]


def compare(
    recipe: str | None = None,
    /,
    *,
    study: str | None = None,
    arms: str | None = None,
    space: str | None = None,
    gene: Many | None = None,
    population: Whole | None = None,
    generations: Whole | None = None,
    searches: Whole | None = None,
    fresh: Whole | None = None,
    proxy: Whole | None = None,
    longer: Number | None = None,
    data: str | None = None,
    epochs: Number | None = None,
    batch_size: Whole | None = None,
    network: str | None = None,
    set: Many | None = None,
    device: str | None = None,
    storage: str | None = None,
    launch: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Compare searches with each other and with the recipe as it is, at an equal number of trainings and steps.

    The best of each search by validation is trained anew with fresh seeds, and the test images are read of these alone,
    once. Interrupt it as you like; the same command goes on, and given again beside it, joins the work.

    Parameters
    ----------
    recipe
        A named recipe, a recipe.toml file, or a folder of photographs; without it, a small one of the embedded digits.
    study
        The comparison's name; it lies in runs/NAME, its searches are the studies NAME-ARM-SEED. Without it, a new one.
    arms
        Those to be compared, as in `default,random,tpe,ga-001,ga`: the recipe repeated with other seeds is `default`.
    space
        default or seed001, as in `residual tune`.
    gene
        A setting to search, as in `residual tune`.
    population
        Individuals of a generation, those that survive included.
    generations
        Generations bred after the first.
    searches
        How many searches each arm makes, each with its own seed.
    fresh
        How many new seeds each winner is trained again with.
    proxy
        How many random settings are also trained for longer, to see if the short training ranks them the same way.
    longer
        How many times as long these trainings are.
    data
        The folder or archive with the images.
    epochs
        Passes over the training images, of every training.
    batch_size
        Images per step.
    network
        A named network.
    set
        Any setting by path.
    device
        The device of this worker.
    storage
        postgresql://USER@HOST/DATABASE for the searches' ledgers; without it $RESIDUAL_STORAGE, else files under runs.
    launch
        A launcher that begins the processes of each training, as in `residual tune`.
    json
        One JSON value instead of tables, the lines on standard error; the page is written all the same.
    """
    from residual.environment import check_versions
    from residual.tuning import need_optuna

    check_versions()
    need_optuna()
    from residual.errors import argument
    from residual.studies.comparison import compare as work
    from residual.studies.contest import Asked
    from residual.studies.findings import findings
    from residual.training.launching import parse_launcher
    from residual.training.progress import unbroken
    from residual.tuning.address import after_command
    from residual.tuning.own import FREE
    from residual.tuning.study import free_name

    changes = asked(set, data=data, epochs=epochs, batch_size=batch_size, network=network, device=device)
    wanted = Asked(
        recipe,
        tuple((path, value) for path, value in changes if not path.startswith("compute.")),
        None if arms is None else tuple(arm.strip() for arm in arms.split(",")),
        space,
        tuple(gene or []),
        population,
        generations,
        searches,
        fresh,
        proxy,
        longer,
    )
    own = tuple((path, value) for path, value in changes if path.startswith(FREE))
    address = storage or os.environ.get("RESIDUAL_STORAGE")
    tell = unbroken(partial(say, stream=sys.stderr if json else None), "comparison")
    words = () if launch is None else parse_launcher(launch)
    name = free_name("compare", address) if study is None else study
    labour = work(name, wanted, storage=address, own=own, tell=tell, launch=words)
    found = findings(labour)
    page = write(labour, found, f"residual study compare --study {argument(name)}{after_command(address)}")
    if json:
        print(json_.dumps(found | {"page": str(page)}))
        return 0
    _table(found)
    print(f"test top-1 of winners trained anew; 95 % intervals that hold together ({len(found['verdicts'])} of them)")
    for line in found["verdicts"]:
        print(printable(line))
    if found["proxy"] is not None:
        print(f"proxy    {found['proxy']['longer']:g} times as long: {found['proxy']['words']}")
    print(printable(f"page     {page}"))
    return 0


def write(labour: Labour, found: Facts, command: str) -> Path:
    """Write the findings, their page and the evidence they are into the comparison's folder; returns the page.

    Raises:
        StorageError: the disk refused.
    """
    from residual.analysis.comparison_page import comparison_page
    from residual.files import readable, replace_file
    from residual.studies.contest import FOUND, PAGE
    from residual.studies.evidence import ENDING
    from residual.studies.evidence import write as write_evidence
    from residual.studies.tuning_evidence import STUDY, tuning_evidence

    folder = labour.contest.folder
    replace_file(folder / FOUND, readable(found))
    replace_file(folder / PAGE, comparison_page(found, command))
    write_evidence(tuning_evidence(labour, found, command), folder / f"{STUDY}{ENDING}")
    return folder / PAGE


def say(unit: str, event: dict[str, Any], stream: TextIO | None = None) -> None:
    """An event of a unit in a line or some; of a search those of `residual tune`."""
    from residual.cli.tune import describe

    for line in describe_training(event) if event["kind"] == "training" else describe(event):
        print(printable(f"{unit}: {line.strip()}"), file=stream, flush=True)


def describe_training(event: dict[str, Any]) -> list[str]:
    match event["event"]:
        case "begun":
            return ["training"]
        case "failed":
            return [f"failed: {event['reason']}"]
    return [f"{'test' if event['test'] else 'validation'} top-1 {event['top1']:.2%}"]


def _table(found: Facts) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from residual.analysis.elements import plural
    from residual.cli.words import console

    searches = plural(found["searches"], "search", "searches")
    title = f"{found['name']}: {found['trainings']} trainings a search, {searches} an arm, winners anew"
    table = Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("arm", "test top-1", "top-3", "top-5", "loss", "validation top-1", "fitness was"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, means in found["means"].items():
        fitness = [row["fitness"] for row in found["rows"] if row["arm"] == arm and row["fitness"] is not None]
        cells = [_pair(means[name], name == "loss") for name in ("top1", "top3", "top5", "loss", "validation_top1")]
        table.add_row(arm, *cells, f"{100 * sum(fitness) / len(fitness):.2f} %" if fitness else "-")
    console().print(table)


def _pair(mean: Facts | None, loss: bool) -> str:
    if mean is None:
        return "-"
    scale, digits, unit = (1, 4, "") if loss else (100, 2, " %")
    spread = "" if mean["std"] is None else f" ± {scale * mean['std']:.{digits}f}"
    return f"{scale * mean['mean']:.{digits}f}{spread}{unit}"

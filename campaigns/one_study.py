"""A study carried out as its plan says, and its evidence put into the package; what was interrupted goes on.

Runs lie in `runs/studies-<budget>[-<steps>][-width-<width>]`, shared by the studies; a result file is named after what
was asked for.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from campaigns.running import ROOT, cifar_folder
from residual.studies.evidence import BUDGETS, ENDING, write
from residual.studies.plans import OF_RUNS, Plan, carry_out, plan_of
from residual.training.progress import Listener, Unbroken, make_listener
from residual.training.recipe import Override

EVIDENCE = ROOT / "src" / "residual" / "studies" / "evidence"
_USUAL = ("budget", "seeds", "first", "steps", "threads", "device", "width", "name")
NARROW = ("degradation", "units", "shortcuts", "momentum", "batchnorm", "dropout", *OF_RUNS)
"""Studies of the paper's CIFAR networks, which may be narrower."""
WIDTH = 16
Options = Callable[[argparse.ArgumentParser], None]


def say_run(arm: str, seed: int) -> Listener:
    print(f"{arm}, seed {seed}", flush=True)
    return Unbroken(make_listener("plain"))


def run_study(study: str, argv: list[str], options: Options = lambda parser: None) -> int:
    """Carry out the plan of a study; write `<study>[-<name>].evidence.json` beside the registry of claims.

    Args:
        options: adds the study's own options; each replaces that of the plan.
    """
    parser = argparse.ArgumentParser(prog=f"make campaign {study}")
    parser.add_argument("--budget", choices=BUDGETS[1:], default="cpu")
    parser.add_argument("--seeds", type=int, help="how many; of the plan's, if not given")
    parser.add_argument("--first", type=int, default=0, help="the first seed; files of other seeds count together")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--device")
    if study in NARROW:
        parser.add_argument("--width", type=int, help=f"of the first stage; the paper's is {WIDTH}")
    parser.add_argument("--name", help="of the result file, so that it stands beside another of the study")
    options(parser)
    if study in OF_RUNS:
        add_networks(parser)
    asked = vars(parser.parse_args(argv))
    usual = {name: asked.pop(name, None) for name in _USUAL}
    if usual["width"] == WIDTH:
        usual["width"] = None
    plan = plan_of(study, usual["budget"])
    plan = _changed(plan, usual, {name: value for name, value in asked.items() if value is not None})
    command = f"make campaign {study}" + (f" ARGS={shlex.join(argv)!r}" if argv else "")
    lengths = [str(usual["steps"])] if usual["steps"] else []
    widths = [f"width-{usual['width']}"] if usual["width"] else []
    root = ROOT / "runs" / "-".join(["studies", usual["budget"], *lengths, *widths])
    if study in OF_RUNS:
        trained = plan_of("degradation", usual["budget"])
        networks = {name: asked[name] for name in ("depths", "kinds") if asked[name] is not None}
        own = {name: value for name, value in plan.options.items() if name not in networks}
        plan = replace(plan, options={**own, "degradation": _for_runs(usual, trained, networks)})
    found = carry_out(
        study,
        plan,
        data=cifar_folder(),
        device=usual["device"],
        root=root,
        command=command,
        budget=usual["budget"],
        listener=say_run,
    )
    path = EVIDENCE / f"{file_name(study, usual, asked)}{ENDING}"
    write(found, path)
    print(f"written: {path.relative_to(ROOT)}; then: residual reproduce --markdown docs/claims.md")
    return 0


def add_networks(parser: argparse.ArgumentParser) -> None:
    """The options of what is trained: each network may have a file of its own, on a machine of its own."""
    parser.add_argument("--depths", type=int, nargs="+", help="of the networks; files of other networks count together")
    parser.add_argument("--kinds", nargs="+", help="of the networks: plain, resnet, preact")


def file_name(study: str, usual: dict[str, Any], own: dict[str, Any]) -> str:
    """`degradation` by the plan of `cpu`; `degradation-64000-20` with other steps and depths, or the name asked for."""
    if usual["name"]:
        return f"{study}-{usual['name']}"
    given = [] if usual["budget"] == "cpu" else [usual["budget"]]
    given += [f"from-{usual['first']}"] if usual["first"] else []
    given += [f"width-{usual['width']}"] if usual["width"] else []
    for value in (usual["steps"], *own.values()):
        given += [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
    return "-".join([study, *given])


def _changed(plan: Plan, usual: dict[str, Any], own: dict[str, Any]) -> Plan:
    """The plan with what was asked for."""
    changes: dict[str, Any] = {"options": {**plan.options, **own}}
    first, count = usual["first"], usual["seeds"]
    if first or count is not None:
        changes["seeds"] = tuple(range(first, first + (len(plan.seeds) if count is None else count)))
    if usual["steps"] is not None:
        changes["steps"] = usual["steps"]
    given: list[Override] = []
    if usual["threads"] is not None:
        given.append(("compute.threads", usual["threads"]))
    if usual["width"] is not None:
        given.append(("network.widths", [usual["width"] * 2**stage for stage in range(3)]))
    if given:
        changes["set"] = (*plan.set, *given)
    return replace(plan, **changes)


def _for_runs(usual: dict[str, Any], trained: Plan, networks: dict[str, Any]) -> dict[str, Any]:
    """What of this is meant for the trainings that the study measures."""
    changed = _changed(trained, usual, networks)
    return {"seeds": changed.seeds, "steps": changed.steps, "set": changed.set, "options": changed.options}

"""The rows of the README's figures that are about trainings and their accuracy."""

from __future__ import annotations

import json
from pathlib import Path

from campaigns.running import ROOT
from residual.files import Facts
from residual.studies.papers import printed


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def digits(result: Facts) -> tuple[str, str, str]:
    top1, seconds = result["test_top1"], result["command_seconds"]
    figure = f"{percent(top1['mean'])} ± {100 * top1['std']:.2f} test top-1, {seconds['mean']:.0f} s a run"
    seeds = ", ".join(str(seed) for seed in result["seeds"])
    return "`residual train`: ResNet-20 on the embedded digits, last step", figure, f"seeds {seeds}"


def _plain(command: str, run: Facts) -> str:
    """The command with which anyone trains the same; and that the test set was looked at on the way, where it was."""
    return f"`{command}`" + ("; test set watched, not used" if run["protocol"]["watched_test"] else "")


def cifar(result: Facts) -> tuple[str, str, str]:
    top1, minutes = result["test_top1"], [seconds / 60 for seconds in result["run_seconds"]["values"]]
    run = json.loads((Path(ROOT) / result["runs"][0]).read_bytes())
    what = (
        f"`cifar10-fast`: {result['network']}, option A, {result['epochs']:.0f} epochs of "
        f"{result['training_images']:,}, single view, last step (the paper after 164 epochs: "
        f"{percent(result['paper_top1'])}); {_plain('residual train cifar10-fast --protocol final --seed 0', run)}"
    )
    figure = (
        f"{percent(top1['mean'])} ± {100 * top1['std']:.2f} test top-1; {', '.join(f'{m:.1f}' for m in minutes)} min"
    )
    return what, figure, f"seeds {', '.join(str(seed) for seed in result['seeds'])}"


def paper(result: Facts) -> tuple[str, str, str]:
    final, network = result["final"]["test"], result["network"]["name"]
    error = next(one for one in printed() if one.study == "degradation").errors[network]
    command = f"residual train cifar10-paper --network {network} --protocol final --seed {result['seed']}"
    what = (
        f"`cifar10-paper`: {network}, option A, {result['steps']:,} iterations on {result['data']['training']:,} "
        f"images, single view, last step (the paper: {100 - float(error):.2f} %); {_plain(command, result)}"
    )
    figure = f"{percent(final['top1'])} test top-1, {percent(final['top5'])} top-5; {result['seconds'] / 60:.0f} min"
    return what, figure, f"seed {result['seed']}, one run"


def fine_tuning(result: Facts) -> tuple[str, str, str]:
    figures, titles = [], []
    for found in result["problems"].values():
        tuned, scratch = found["test_top1"]["fine-tuned"], found["test_top1"]["from scratch"]
        difference = found["paired_differences"]["fine-tuned"]
        low, high = difference["interval"]
        titles.append(f"{found['title']} from {found['images_of_each']} images each, {found['steps']} steps")
        figures.append(
            f"{percent(tuned['mean'])} ± {100 * tuned['std']:.2f} against {percent(scratch['mean'])} ± "
            f"{100 * scratch['std']:.2f} test top-1, paired difference {100 * difference['mean']:+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}); frozen tensors unchanged: "
            f"{found['frozen_tensors']['unchanged']} of {found['frozen_tensors']['all']}"
        )
    seeds = ", ".join(str(seed) for seed in next(iter(result["problems"].values()))["seeds"])
    return f"fine-tuning against training from scratch: {'; '.join(titles)}", "; ".join(figures), f"seeds {seeds}"


def _whose(part: Facts) -> str:
    """That runs of the recipe of another row are none of that row's, where their figures are others."""
    if not all(run.startswith("cifar10-fast") for run in part["runs"]):
        return ""
    row = json.loads((Path(ROOT) / "results" / "cifar10-fast.json").read_bytes())
    found = sorted(round(member["top1"], 4) for member in part["protocols"]["1-crop"]["members"])
    if found == sorted(row["test_top1"]["values"]):
        return ""
    return ", other trainings of `cifar10-fast` than those of the row above"


def protocols(result: Facts) -> tuple[str, str, str]:
    figures, titles = [], []
    for part in result["parts"].values():
        few = len(part["runs"]) < 3
        runs = f"{len(part['runs'])} runs{', which tell nothing of a deviation' if few else ''}"
        titles.append(f"{part['title']} ({part['images']:,}), {runs}{_whose(part)}")
        for protocol, found in part["protocols"].items():
            members, whole = found["members_top1"], found["ensemble"]
            low, high = whole["intervals"]["top1"]
            deviation = "" if few else f" ± {100 * members['std']:.2f}"
            figures.append(
                f"{protocol} {percent(members['mean'])}{deviation}, ensemble "
                f"{percent(whole['top1'])} ({100 * low:.2f} to {100 * high:.2f})"
            )
    return f"protocols and ensembles, top-1: {'; '.join(titles)}", "; ".join(figures), "seeds of the runs"

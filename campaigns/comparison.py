"""Tuning compared honestly with going without, at an equal number of trainings of equal length.

Five arms: the default recipe repeated with other seeds, random search, TPE, `ga-001` and `ga`; each with several
search seeds on the same space. Of the default recipe and of each arm's winner, fresh seeds are trained, and of these
alone the test figures are looked at. Before that, the short training is compared with a longer one on some settings
(Spearman). Every study and training stands in its own folder, so an interrupted campaign goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from campaigns.ga001 import FAST, say
from campaigns.running import ROOT, cifar_folder, spread, write_result
from residual.chance import stream
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.training.recipe import Override, override
from residual.training.recipes import find_recipe
from residual.training.train import resume, train
from residual.tuning.rows import Snapshot
from residual.tuning.space import named_space
from residual.tuning.study import Wish, tune
from residual.tuning.summary import summarise

SEARCHES = ("random", "tpe", "ga-001", "ga")


def trained(name: str, changes: Sequence[Override], own: Sequence[Override]) -> Facts:
    """The result of one training by the name of its folder: begun, gone on with, or already there."""
    path = ROOT / "runs" / name
    if (path / "run.json").is_file():
        run = RunFolder.open(path)
        if run.result() is None:
            run = resume(path, set=own, override_safe=True)
    else:
        run = train(FAST, set=[*changes, *own], out=path, command=f"make campaign comparison: {name}")
    result = run.result()
    if result is None:
        raise RuntimeError(f"{path} did not finish")
    return result


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing their mean rank."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of ranks; None where one of them does not vary."""
    a, b = ranks(first), ranks(second)
    return None if len(set(a)) < 2 or len(set(b)) < 2 else statistics.correlation(a, b)


T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 14: 2.145}
"""Student's t for a two-sided interval of 95 %, by degrees of freedom."""


def interval(values: Sequence[float]) -> Facts:
    """Mean, standard deviation, and a 95 % interval of the mean where there are two values or more."""
    found = spread(values)
    freedom = len(values) - 1
    if freedom < 1:
        return found | {"interval": None}
    known = max((n for n in T_95 if n <= freedom), default=1)  # the wider interval where the table has a gap
    half = T_95[known] * found["std"] / math.sqrt(len(values))
    return found | {"interval": [found["mean"] - half, found["mean"] + half]}


def proxy(base: Sequence[Override], longer: float, settings: int, own: Sequence[Override]) -> Facts:
    """How the short training ranks some random settings against one `longer` times as long, on validation images."""
    recipe = override(find_recipe(FAST), base)
    space = named_space("default", recipe)
    rows = []
    for number in range(settings):
        genes = space.draw(stream(0, "tuning", "proxy", number))
        changes = [*base, *space.overrides(genes)]
        short = trained(f"comparison/proxy-{number}-short", changes, own)
        long = trained(f"comparison/proxy-{number}-long", [*changes, ("epochs", (recipe.epochs or 1) * longer)], own)
        figures = [one["final"]["validation"]["top1"] for one in (short, long)]
        rows.append({"genes": dict(zip(space.paths, genes, strict=True)), "short": figures[0], "long": figures[1]})
    return {
        "longer": longer,
        "rows": rows,
        "spearman": spearman([row["short"] for row in rows], [row["long"] for row in rows]) if len(rows) > 1 else None,
    }


def winner(snapshot: Snapshot, trainings: int) -> Any:
    """The best of the first so many individuals: no arm profits from a longer search."""
    first = [one for one in snapshot.individuals if one.number < trainings and one.fitness is not None]
    return max(first, key=lambda one: (one.fitness or 0.0, -one.number), default=None)


def arm(name: str, seed: int, base: Sequence[Override], size: tuple[int, int], own: Sequence[Override]) -> Facts:
    """One search: its winner's genes, best-so-far curve, gene histories and duplicates."""
    population, generations = size
    wish = Wish(
        FAST, tuple(base), sampler=name, space="default", population=population, generations=generations, seed=seed
    )
    study = tune(f"comparison-{name}-seed{seed}", wish, own=own, tell=say)
    trainings = population + generations * (population - round(0.5 * population))
    best, found = winner(study.read(), trainings), summarise(study)
    return {
        "arm": name,
        "search_seed": seed,
        "trainings": min(trainings, len(found["individuals"])),
        "best_so_far": found["best_so_far"][:trainings],
        "duplicates": len(found["duplicates"]),
        "failed": found["counts"]["failed"],
        "genes": None if best is None else dict(zip(study.space.paths, best.genes, strict=True)),
        "fitness": None if best is None else best.fitness,
        "histories": [
            {"number": row["number"], "genes": row["genes"], "fitness": row["fitness"]} for row in found["individuals"]
        ],
    }


def repeated(seed: int, base: Sequence[Override], trainings: int, own: Sequence[Override]) -> Facts:
    """The control: the default recipe as often as the searches train, its best by chance alone."""
    top1 = []
    for number in range(trainings):
        changes = [*base, ("seed", 1000 * (seed + 1) + number)]
        top1.append(trained(f"comparison/default-{seed}-{number}", changes, own)["final"]["validation"]["top1"])
    best = [max(top1[: n + 1]) for n in range(trainings)]
    return {
        "arm": "default",
        "search_seed": seed,
        "trainings": trainings,
        "best_so_far": best,
        "genes": {},
        "fitness": best[-1],
    }


def retrained(row: Facts, base: Sequence[Override], fresh: int, own: Sequence[Override]) -> list[float]:
    """Test top-1 of a winner's settings with seeds that no search has seen."""
    found = []
    for number in range(fresh):
        changes = [*base, *row["genes"].items(), ("seed", 500_000 + 100 * row["search_seed"] + number)]
        name = f"comparison/winner-{row['arm']}-{row['search_seed']}-{number}"
        found.append(trained(name, changes, own)["final"]["test"]["top1"])
    return found


def verdict(differences: Mapping[str, Facts]) -> list[str]:
    """In words that the intervals carry, and no others."""
    lines = []
    for name, found in differences.items():
        low, high = found["interval"] or (-math.inf, math.inf)
        points = f"{100 * found['mean']:+.2f} points"
        if low > 0:
            lines.append(f"{name}: better than the default recipe by {points}")
        elif high < 0:
            lines.append(f"{name}: worse than the default recipe by {points}")
        else:
            lines.append(f"{name}: no difference from the default recipe was shown ({points})")
    return lines


def compare(base: Sequence[Override], seeds: int, size: tuple[int, int], fresh: int, own: Sequence[Override]) -> Facts:
    """All arms with all search seeds, the winners trained anew, and their paired differences from the default."""
    trainings = size[0] + size[1] * (size[0] - round(0.5 * size[0]))
    rows = [arm(name, seed, base, size, own) for seed in range(seeds) for name in SEARCHES]
    rows += [repeated(seed, base, trainings, own) for seed in range(seeds)]
    for row in rows:
        row["test_top1"] = [] if row["genes"] is None else retrained(row, base, fresh, own)
    means = {(row["arm"], row["search_seed"]): statistics.fmean(row["test_top1"]) for row in rows if row["test_top1"]}
    differences = {
        name: interval([means[name, s] - means["default", s] for s in range(seeds) if (name, s) in means])
        for name in SEARCHES
        if any((name, s) in means for s in range(seeds))
    }
    figures = {
        name: interval([value for (n, _), value in means.items() if n == name])
        for name in dict.fromkeys(n for n, _ in means)
    }
    return {"rows": rows, "test_top1": figures, "paired_differences": differences, "verdicts": verdict(differences)}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign comparison", description=__doc__)
    parser.add_argument("--network", default="resnet-8")
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--population", type=int, default=10)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--search-seeds", type=int, default=3)
    parser.add_argument("--fresh-seeds", type=int, default=3)
    parser.add_argument("--proxy-settings", type=int, default=10)
    parser.add_argument("--longer", type=float, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    began = time.monotonic()
    own = (("data.path", cifar_folder()), ("compute.device", options.device))
    base = (("network.name", options.network), ("data.limit", options.limit), ("epochs", options.epochs))
    first = proxy(base, options.longer, options.proxy_settings, own)
    print(
        f"the short training ranks {options.proxy_settings} settings like the longer one: Spearman {first['spearman']}"
    )
    size = (options.population, options.generations)
    found = compare(base, options.search_seeds, size, options.fresh_seeds, own)
    write_result("comparison", {"settings": vars(options), "proxy": first, **found}, began)
    print("\n".join(found["verdicts"]))
    return 0

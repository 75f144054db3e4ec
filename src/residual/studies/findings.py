"""What a finished comparison found, in plain values: rows, means, differences with their intervals, verdicts, curves.

Shares in [0, 1], losses in nats. The unit that intervals count is the search: of each, the mean over its fresh seeds is
one value, so that the chance of the search is in them as well as that of the training. What failed counts as chance,
one in so many classes, be it a fresh training or a search all of whose trainings failed: to leave it out would favour
what fails now and then. A difference carries a verdict from three searches on, and its interval is never narrower than
as many test images allow (`binomial_error`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from residual.analysis.bands import band
from residual.analysis.curves import Curves, Series
from residual.environment import machine, versions
from residual.errors import ModelError
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.runs.summary import flat
from residual.studies.comparison import Labour, Trained
from residual.studies.contest import DEFAULT
from residual.studies.student import Mean, binomial_error, mean_of, reach, spearman
from residual.training.recipe import Override

LEAST_SEARCHES = 3
"""Two differences lie close together by chance too often for their deviation to say anything."""
LEAST_PAIRS = 3
SCORES = ("top1", "top3", "top5", "loss")
TRACES = ("top-1", "top-3", "top-5", "training loss", "validation loss")


def findings(labour: Labour) -> Facts:
    """Everything that is shown of a finished comparison.

    Raises:
        ModelError: one of its trainings is not there any more.
        StorageError, DataError: what stands in its place has other settings, or read other images.
    """
    contest, facts = labour.contest, labour.contest.facts
    arms, searches = facts["arms"], range(facts["searches"])
    fresh = {(arm, s): _fresh(labour, arm, s) for arm in arms for s in searches}
    runs = [one.run for found in fresh.values() for one in found if one.run is not None]
    data = runs[0].facts()["data"] if runs else None  # those of all: each was asked for its images
    classes = len(data["class_names"]) if data else None
    rows = []
    for search in searches:
        for arm in arms:
            row = _repeated(labour, search) if arm == DEFAULT else _searched(labour, arm, search)
            rows.append(row | judged(fresh[arm, search], row["fitness"], classes))
    judged_images = data["test"] * facts["fresh"] if data else 0
    means = {
        arm: {
            name: _spread(values, name, judged_images).as_dict() if (values := _values(rows, arm, name)) else None
            for name in (*SCORES, "validation_top1", "optimism")
        }
        for arm in arms
    }
    found = differences(rows, arms, data["test"] if data else 0, facts["fresh"])
    return {
        **{name: value for name, value in facts.items() if name != "versions"},
        "trainings": contest.trainings,
        "classes": classes,
        "data": {name: data[name] for name in ("name", "training", "validation", "test")} if data else None,
        "steps": runs[0].facts()["chosen"]["steps"] if runs else None,
        "defaults": {path: flat(facts["recipe"]).get(path) for path in contest.space.paths},
        "rows": rows,
        "means": means,
        "differences": found,
        "verdicts": [one["verdict"] for one in found],
        "curves": {arm: traced(_runs(fresh, arm)) for arm in arms},
        "reach": reach(facts["searches"], len(found)) if found and facts["searches"] > 1 else None,
        "proxy": _proxy(labour, _values_of_default(rows)),
        "training_seconds": sum(row["seconds"] for row in rows),
        "versions": versions(),
        "machine": machine(),
    }


# -- one arm in one search ---------------------------------------------------------------------------------


def _fresh(labour: Labour, arm: str, search: int) -> list[Trained]:
    genes, count = labour.best(arm, search), labour.contest.facts["fresh"]
    if genes is None:
        return []
    return [_done(labour, f"winner-{arm}-{search}-{n}", labour.fresh_changes(search, n, genes)) for n in range(count)]


def _done(labour: Labour, name: str, changes: list[Override]) -> Trained:
    found = labour.trained(name, changes)
    if found is None:
        raise ModelError("a training of the comparison is gone", labour.contest.folder / name, "give the command again")
    return found


def _searched(labour: Labour, arm: str, search: int) -> Facts:
    found = labour.searched(arm, search)
    if found is None:
        raise ModelError("a search of the comparison is gone", labour.study(arm, search), "give the command again")
    allowed = {row["number"]: row for row in found["individuals"][: labour.contest.trainings]}
    best = None if found["winner"] is None else allowed[found["winner"]]
    twins = [number for number in found["duplicates"] if int(number) in allowed]
    return {
        "arm": arm,
        "search": search,
        "study": found["study"],
        "trainings": len(allowed),
        "failed": sum(row["fitness"] is None for row in allowed.values()),
        "duplicates": len(twins),
        "winner": found["winner"],
        "genes": found["winner_genes"],
        "fitness": None if best is None else best["fitness"],
        "best_so_far": found["best_so_far"][: len(allowed)],
        "history": [
            {name: row[name] for name in ("number", "generation", "genes", "fitness")} for row in allowed.values()
        ],
        "seconds": sum(row["seconds"] or 0.0 for row in allowed.values()),
    }


def _repeated(labour: Labour, search: int) -> Facts:
    """The control: the recipe as it is, as often as the searches train; its best is best by chance alone."""
    done = [
        _done(labour, f"{DEFAULT}-{search}-{n}", labour.repeat_changes(search, n))
        for n in range(labour.contest.trainings)
    ]
    fitness = [None if (final := one.final("validation")) is None else final["top1"] for one in done]
    best: list[float | None] = []
    for value in fitness:
        able = [v for v in (*best[-1:], value) if v is not None]
        best.append(max(able, default=None))
    able = [value for value in fitness if value is not None]
    return {
        "arm": DEFAULT,
        "search": search,
        "study": None,
        "trainings": len(done),
        "failed": len(fitness) - len(able),
        "duplicates": None,  # all have the same settings, by intention
        "winner": None if not able else fitness.index(max(able)),
        "genes": {},
        "fitness": max(able, default=None),
        "best_so_far": best,
        "history": [{"number": n, "generation": 0, "genes": {}, "fitness": value} for n, value in enumerate(fitness)],
        "seconds": sum((one.run.result() or {})["seconds"] for one in done if one.run is not None),
    }


def judged(fresh: Sequence[Trained], fitness: float | None, classes: int | None) -> Facts:
    """The test figures of the fresh trainings, and by how much the search had thought too well of its winner.

    A search without a winner has none: its figures are those of chance.
    """
    test = [chance(classes) if (final := one.final("test")) is None else final for one in fresh] or [chance(classes)]
    held = [chance(classes) if (final := one.final("validation")) is None else final for one in fresh] or test
    found: Facts = {name: _mean([one[name] for one in test]) for name in SCORES}
    found["fresh"] = [
        {"run": None if one.run is None else one.run.name, "reason": one.reason, **{name: t[name] for name in SCORES}}
        for one, t in zip(fresh, test, strict=False)
    ]
    found["validation_top1"] = held_top1 = _mean([one["top1"] for one in held])
    found["optimism"] = None if fitness is None or held_top1 is None else fitness - held_top1
    return found


def chance(classes: int | None) -> Facts:
    """The figures of a network that guesses; None where nothing was trained that knows the classes."""
    if classes is None:
        return dict.fromkeys(SCORES)
    return {f"top{k}": min(1.0, k / classes) for k in (1, 3, 5)} | {"loss": math.log(classes)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _values(rows: Sequence[Facts], arm: str, name: str) -> list[float]:
    return [row[name] for row in rows if row["arm"] == arm and row[name] is not None]


def _spread(values: list[float], name: str, images: int) -> Mean:
    """The mean over searches; that of an accuracy is known no better than so many judged images allow."""
    known = name in SCORES and name != "loss" and images > 0
    return mean_of(values, 1, binomial_error([statistics.fmean(values)], images * len(values)) if known else 0.0)


def _values_of_default(rows: Sequence[Facts]) -> list[float]:
    """The fitness of every repeat of the default recipe."""
    repeats = [one["fitness"] for row in rows if row["arm"] == DEFAULT for one in row["history"]]
    return [fitness for fitness in repeats if fitness is not None]


# -- between arms ------------------------------------------------------------------------------------------


def pairs_of(arms: Sequence[str]) -> list[tuple[str, str]]:
    """What is compared, fixed before any figure is seen: all with the default recipe, searches with random search."""
    against = [arm for arm in (DEFAULT, "random") if arm in arms] or [arms[0]]
    return [(arm, other) for other in against for arm in arms if arm not in (DEFAULT, other)]


def differences(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], images: int = 0, fresh: int = 1) -> list[Facts]:
    """Differences of test top-1, paired by search seed, with simultaneous intervals, and what they carry in words.

    Args:
        images: of the test, on which each of the `fresh` trainings of a winner was judged.
    """
    pairs, found = pairs_of(arms), []
    table = {(row["arm"], row["search"]): row["top1"] for row in rows if row["top1"] is not None}
    for first, second in pairs:
        shared = sorted({s for arm, s in table if arm == first} & {s for arm, s in table if arm == second})
        mean, count = None, images * fresh * len(shared)
        if shared:
            one, two = (statistics.fmean(table[arm, s] for s in shared) for arm in (first, second))
            least = binomial_error((one, two), count) if count else 0.0
            mean = mean_of([table[first, s] - table[second, s] for s in shared], len(pairs), least)
        words = verdict(first, second, mean, count)
        found.append({"first": first, "second": second, "verdict": words, **(mean.as_dict() if mean else {})})
    return found


def verdict(first: str, second: str, mean: Mean | None, predictions: int = 0) -> str:
    """What a difference carries, and no more."""
    other = "the default recipe" if second == DEFAULT else second
    if mean is None:
        return f"{first} against {other}: nothing can be said, since no fresh training came to its end"
    points, count = f"{100 * mean.mean:+.2f} points", len(mean.values)
    if mean.interval is None or count < LEAST_SEARCHES:
        searches = "one search" if count == 1 else f"{count} searches"
        return f"{first} against {other}: {points} in {searches} each, which chance alone may make: no verdict below 3"
    low, high = mean.interval
    span = f"{points}, interval {100 * low:+.2f} to {100 * high:+.2f}, {count} searches"
    if mean.widened:
        span += f", no narrower than {predictions:,} predictions of test images a side allow"
    if low > 0:
        return f"{first} is better than {other}: {span}"
    if high < 0:
        return f"{first} is worse than {other}: {span}"
    return f"{first} against {other}: no difference was shown ({span})"


# -- curves and the proxy ----------------------------------------------------------------------------------


def _runs(fresh: Mapping[tuple[str, int], Sequence[Trained]], arm: str) -> list[RunFolder]:
    return [one.run for (name, _), found in fresh.items() if name == arm for one in found if one.run is not None]


def traced(runs: Sequence[RunFolder]) -> dict[str, Facts]:
    """By epoch mean and deviation over the runs: validation top-1, top-3, top-5 and loss, and the training loss."""
    curves = [trace(run.records()) for run in runs]
    return {name: asdict(found) for name in TRACES if (found := band(curves, name)) is not None}


def trace(records: Sequence[Mapping[str, Any]]) -> Curves:
    """The curves of one run: accuracies are shares, the training loss is the running one."""
    points: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in TRACES}
    for record in records:
        found: dict[str, float] = {}
        if record["kind"] == "train":
            found = {"training loss": record["loss"]}
        elif record["kind"] == "evaluation" and record["split"] == "validation":
            found = {f"top-{k}": record[f"top{k}"] for k in (1, 3, 5)} | {"validation loss": record["loss"]}
        for name, value in found.items():
            points[name][record["step"]] = (record["epoch"], value)
    series = {}
    for name, table in points.items():
        if table:
            steps = tuple(sorted(table))
            series[name] = Series(tuple(table[s][0] for s in steps), steps, tuple(table[s][1] for s in steps))
    return Curves(series)


def _proxy(labour: Labour, fair: Sequence[float] = ()) -> Facts | None:
    """How the short training ranks some random settings against the long one, of those that both trained.

    Failures are counted beside it: as the worst rank of both they would make the ranks agree by themselves.
    """
    count = labour.contest.facts["proxy"]
    if not count:
        return None
    rows: list[Facts] = []
    for number in range(count):
        genes = dict(zip(labour.contest.space.paths, labour.proxy_genes(number), strict=True))
        figures: dict[str, float | None] = {}
        for tail in ("short", "long"):
            changes = labour.proxy_changes(number, tail == "long")
            final = _done(labour, f"proxy-{number}-{tail}", changes).final("validation")
            figures[tail] = None if final is None else final["top1"]
        rows.append({"genes": genes, **figures})
    return {"longer": labour.contest.facts["longer"], "rows": rows, **ranked(rows, fair)}


def ranked(rows: Sequence[Mapping[str, Any]], fair: Sequence[float] = ()) -> Facts:
    """Spearman's correlation over the pairs, how many these are, how many failed, and all of it in words.

    Args:
        fair: the fitness of the default's repeats: settings below it say nothing of the place where searches decide.
    """
    pairs = [(row["short"], row["long"]) for row in rows if None not in (row["short"], row["long"])]
    failed = {tail: sum(row[tail] is None for row in rows) for tail in ("short", "long")}
    rho = spearman(*zip(*pairs, strict=True)) if len(pairs) >= LEAST_PAIRS else None
    told = "cannot be told" if rho is None else f"is {rho:.2f}"
    words = f"the correlation of their ranks (Spearman) {told}, over the {len(pairs)} of {len(rows)} that both trained"
    words += f"; {failed['short']} failed in the short training, {failed['long']} in the long one"
    mean = statistics.fmean(fair) if fair else None
    if pairs and mean is not None:
        short = [pair[0] for pair in pairs]
        reached = sum(one >= mean for one in short)
        words += f"; their short figures lie from {min(short):.1%} to {max(short):.1%}, and {reached} of {len(short)} "
        words += f"reach the {mean:.1%} that the default has in the mean"
        if not reached:
            words += ": so it tells poor settings from fair ones, and not the best from each other"
    return {"spearman": rho, "pairs": len(pairs), "failed": failed, "default": mean, "words": words}

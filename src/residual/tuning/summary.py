"""A study in plain values: who was trained, what came of it, how the best and the genes went. Draws nothing."""

from __future__ import annotations

from optuna.trial import TrialState

from residual.files import Facts
from residual.tuning.algorithms import OWN
from residual.tuning.rows import Individual, Snapshot
from residual.tuning.study import Study

WORDS = {
    TrialState.COMPLETE: "trained",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "training",
    TrialState.WAITING: "waiting",
}


def summarise(study: Study) -> Facts:
    """All that is shown of a study; `residual study show --json` prints it."""
    snapshot, facts = study.read(), study.facts
    paths = study.space.paths
    best = snapshot.best
    rows = [row(one, paths) for one in snapshot.individuals]
    last = len(snapshot.generations) - 1
    counts = {word: sum(r["state"] == word for r in rows) for word in WORDS.values()}
    return {
        "study": study.name,
        "folder": str(study.folder),
        "storage": study.address.shown,
        "status": "finished" if last >= facts["generations"] and snapshot.closed else "not finished",
        "generation": last,
        **{name: facts[name] for name in ("generations", "population", "seed", "seeds", "pruning", "fitness")},
        "recipe": facts["recipe"]["name"],
        "algorithm": facts["algorithm"],
        "space": facts["space"],
        "counts": counts,
        "seconds": sum(r["seconds"] or 0.0 for r in rows),
        "own": next((r["fitness"] for r in rows if r["how"] == OWN), None),
        "best": None if best is None else row(best, paths),
        "best_so_far": best_so_far(snapshot),
        "duplicates": duplicates(snapshot),
        "populations": populations(snapshot),
        "individuals": rows,
    }


def row(one: Individual, paths: tuple[str, ...]) -> Facts:
    return {
        "number": one.number,
        "generation": one.generation,
        "state": WORDS[one.state],
        "fitness": one.fitness,
        "genes": dict(zip(paths, one.genes, strict=True)),
        "how": one.how,
        "parents": list(one.parents),
        "reason": one.outcome.get("reason"),
        "runs": one.outcome.get("runs", []),
        "seconds": one.outcome.get("seconds"),
        "deaths": len(one.deaths),
    }


def best_so_far(snapshot: Snapshot) -> list[float | None]:
    """The best fitness among the first 1, 2, ... individuals in the order of their numbers."""
    found: list[float | None] = []
    for one in snapshot.individuals:
        before = found[-1] if found else None
        found.append(one.fitness if before is None else before if one.fitness is None else max(before, one.fitness))
    return found


def duplicates(snapshot: Snapshot) -> dict[str, int]:
    """Individuals that have the genes of an earlier one, with its number: trainings that could teach nothing new."""
    first: dict[str, int] = {}
    found: dict[str, int] = {}
    for one in snapshot.individuals:
        before = first.setdefault(repr(one.genes), one.number)  # as text 1 and true are two
        if before != one.number:
            found[str(one.number)] = before
    return found


def populations(snapshot: Snapshot) -> list[Facts]:
    """Each population: its members, how many survived into it, best and mean fitness."""
    found = []
    fitness = {one.number: one.fitness for one in snapshot.individuals}
    for number, generation in enumerate(snapshot.generations):
        able = [value for n in generation.population if (value := fitness[n]) is not None]
        found.append(
            {
                "generation": number,
                "members": list(generation.population),
                "survivors": list(generation.survivors),
                "best": max(able, default=None),
                "mean": sum(able) / len(able) if able else None,
            }
        )
    return found

"""Several classifiers judged together: each for itself, their ensemble, and every two of them against each other.

The members answer the same images under the same protocol; what was computed anew and what was read from a file of
predictions is judged alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from residual.borrowed import borrowed
from residual.device import choose_device, mind_fork
from residual.errors import ResidualError, UsageError, log
from residual.evaluation.answer_table import SUFFIX as TABLE
from residual.evaluation.answer_table import write_answers
from residual.evaluation.answering import answer_sheet, mind_mirrors, mind_sizes, resized
from residual.evaluation.calibration import fit_temperature
from residual.evaluation.choices import check_choices
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.destination import photographs
from residual.evaluation.figures import Report, report
from residual.evaluation.intervals import Paired, compare
from residual.evaluation.judged import Judged, Split, select
from residual.evaluation.protocols import Average, Protocol
from residual.evaluation.scores import rank_of_truth
from residual.evaluation.sheets import Sheet, align, ensemble, read, save
from residual.evaluation.use import Place as Member
from residual.evaluation.use import load, named
from residual.files import Facts
from residual.runs.folder import find_run

Place = str | os.PathLike[str]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Together:
    """One report for each member, in their order; of several, that of the ensemble and the comparison of each pair."""

    members: tuple[Report, ...]
    ensemble: Report | None
    pairs: tuple[Paired, ...]

    @property
    def reports(self) -> tuple[Report, ...]:
        return self.members if self.ensemble is None else (*self.members, self.ensemble)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; of a single member its report alone."""
        if self.ensemble is None:
            return self.members[0].as_dict()
        return {
            "members": [member.as_dict() for member in self.members],
            "ensemble": self.ensemble.as_dict(),
            "paired": [pair.as_dict() for pair in self.pairs],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the answers into a file that `from_files` reads; see `sheets`. A .csv is a table to look at: a row for
        every image and member, and of several for the ensemble as well; see `answer_table`."""
        place = Path(path).expanduser()
        if place.suffix.lower() == TABLE:
            return write_answers(place, [one.sheet for one in self.reports])
        facts = None if self.ensemble is None else self.ensemble.sheet.facts
        told = None if facts is None else {name: facts[name] for name in ("average", "temperature")}
        return save(place, [member.sheet for member in self.members], told)


@borrowed()
def evaluate_together(
    places: Sequence[Member],
    *,
    protocol: Protocol = "1-crop",
    average: Average = "probabilities",
    split: Split | None = None,
    data: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
    device: str | torch.device = "auto",
    calibrate: bool = False,
    image_size: int | None = None,
    crop: float | None = None,
    found: Callable[[Sequence[str]], None] = lambda _: None,
    progress: Progress = lambda _place, _done, _all: None,
) -> Together:
    """Let runs, models, checkpoints or classifiers answer the same images; several are an ensemble too.

    Args:
        protocol: which views of an image are looked at.
        average: what is averaged over views, and over members.
        split, data, follow_links, device: as for one run.
        image_size, crop: look at files in another size, or at another share of them; see `Classifier.at_size`.
        calibrate: also fit a temperature on the validation images of each, and on those all share for the ensemble.
        found: told of each member, before it answers, the places of photographs: those it trained on and those judged.
        progress: told the place, and how many of its images of how many are done.

    Raises:
        UsageError: a place is named twice, or the members do not tell the same classes of the same images apart; or
            there is no such protocol, average or split.
    """
    check_choices(protocol, average, split)
    mind_fork()
    members = [(place, named(place)) for place in places]
    in_memory = [place for place, _ in members if isinstance(place, Classifier)]
    if len(in_memory) > 1:  # each needs a name of its own
        numbers = iter(range(1, len(in_memory) + 1))
        members = [
            (place, f"{name[:-1]}, {next(numbers)})" if isinstance(place, Classifier) else name)
            for place, name in members
        ]
    _refuse_twice([name for place, name in members if not isinstance(place, Classifier)])
    data = None if data is None else os.fspath(data)
    chosen = choose_device(device)
    sheets: list[Sheet] = []
    held: list[Sheet] = []
    for member, place in members:
        classifier = resized(load(member if isinstance(member, Classifier) else place), image_size, crop)
        judged = select(classifier, place, split, data, follow_links)
        mind_sizes(judged, image_size, crop)
        found([photographs(classifier.provenance.get("data", {})), judged.origin if judged.dataset == "folder" else ""])
        mind_mirrors(classifier, place, protocol)
        other = _held_out(classifier, place, judged, data, follow_links) if calibrate else None

        def answers(of: Judged, place: Place = place, classifier: Classifier = classifier) -> Sheet:
            def tell(done: int, total: int) -> None:
                progress(str(place), done, total)

            return answer_sheet(classifier, of, place, protocol=protocol, average=average, device=chosen, progress=tell)

        sheets.append(answers(judged))
        sheets[-1] = align([sheets[0], sheets[-1]])[-1]
        _refuse_equal(sheets)  # before the next one is computed
        if other is not None:
            held.append(answers(other))
            sheets[-1] = _with_temperature(sheets[-1], held[-1])
    return _judge(align(sheets), average, lambda found: _shared_temperature(found, held, average))


def from_files(paths: Sequence[Place], average: Average | None = None) -> Together:
    """The same from files of predictions, without the models and without the images.

    Args:
        average: of the members; as each ensemble was made unless given, else of probabilities.

    Raises:
        DataError: not such a file.  UsageError: the files are not of the same images, classes and protocol.
    """
    check_choices(average=average)
    _refuse_same([Path(path).expanduser() for path in paths])
    sheets: list[Sheet] = []
    known: list[Facts] = []
    for path in paths:
        found, facts = read(Path(path).expanduser())
        sheets += found
        known.append(facts)
    made = sheets[0].facts["average"]
    if len(sheets) == 1 and average not in (None, made) and sheets[0].facts["views"] > 1:
        what = f"its {sheets[0].facts['views']} views were averaged as {made}, and nothing else is left of them"
        raise UsageError(what, paths[0], f"leave --average out, or evaluate again with --average {average}")
    alone = known[0] if len(known) == 1 else {}
    chosen: Average = average or ("logits" if alone.get("average") == "logits" else "probabilities")

    def recall(found: Sheet) -> Sheet:
        return _with(found, alone.get("temperature")) if alone.get("average") == chosen else found

    aligned = align(sheets)
    for count in range(1, len(aligned) + 1):
        _refuse_equal(aligned[:count])
    return _judge(aligned, chosen, recall)


def _judge(sheets: list[Sheet], average: Average, finish: Callable[[Sheet], Sheet]) -> Together:
    members = tuple(report(sheet) for sheet in sheets)
    if len(sheets) == 1:
        return Together(members, None, ())
    right = [rank_of_truth(sheet.logits, sheet.labels) == 0 for sheet in sheets]
    pairs = [
        compare(sheets[i].place, right[i], sheets[j].place, right[j]) for i, j in combinations(range(len(sheets)), 2)
    ]
    whole = finish(ensemble(sheets, average))
    together = rank_of_truth(whole.logits, whole.labels) == 0
    pairs += [compare(sheet.place, own, whole.place, together) for sheet, own in zip(sheets, right, strict=True)]
    return Together(members, report(whole), tuple(pairs))


def _refuse_twice(places: Sequence[Place]) -> None:
    seen = set()
    for place in places if len(places) > 1 else ():
        text = os.path.expanduser(place)
        is_model = os.path.exists(os.path.join(text, DESCRIPTION))
        where = os.path.realpath(text if is_model else find_run(os.fspath(text)).path)
        if where in seen:
            raise UsageError("a run is named twice", place, "name it once: with itself it is no ensemble")
        seen.add(where)


def _refuse_same(paths: Sequence[Path]) -> None:
    seen = set()
    for path in paths:
        if (where := os.path.realpath(path)) in seen:
            raise UsageError("a file is named twice", path, "name it once: with itself it is no ensemble")
        seen.add(where)


def _refuse_equal(sheets: Sequence[Sheet]) -> None:
    """Refuse that the last of these aligned sheets is of the same network as one before: a copy, or the run's model."""
    *others, last = sheets
    for other in others:
        if torch.equal(other.logits, last.logits):
            what = "both give exactly the same answers, so they are one network, and with itself it is no ensemble"
            raise UsageError(what, f"{other.place}, {last.place}", "name it once")


def _held_out(classifier: Classifier, place: Place, judged: Judged, data: str | None, follow_links: bool) -> Judged:
    """The validation images that a temperature is fitted on."""
    if judged.split == "validation":
        what = "these are the validation images, on which a temperature is fitted and never judged"
        raise UsageError(what, "--calibrate", "choose --split test, or leave --calibrate out")
    if not judged.own:
        what = "a temperature is fitted on images that were held out of the training, and these are others"
        raise UsageError(what, "--calibrate", "leave it out, or judge the images of the training")
    return select(classifier, place, "validation", data, follow_links)


def _with_temperature(sheet: Sheet, held: Sheet) -> Sheet:
    found = fit_temperature(held.logits, held.labels)
    if found is None:
        why = "all its validation images are answered rightly, or no better than by chance"
        log.warning("no temperature is best for %s: %s", sheet.place, why)
        return sheet
    return _with(sheet, {"value": found.value, "images": found.images})


def _with(sheet: Sheet, temperature: Facts | None) -> Sheet:
    return replace(sheet, facts={**sheet.facts, "temperature": temperature})


def _shared_temperature(found: Sheet, held: list[Sheet], average: Average) -> Sheet:
    """The ensemble with the temperature of its own answers to the validation images, where all held out the same."""
    if not held:
        return found
    try:
        same = align(held)
    except ResidualError:
        log.warning("the ensemble is not calibrated: its members held out different validation images")
        return found
    return _with_temperature(found, ensemble(same, average))

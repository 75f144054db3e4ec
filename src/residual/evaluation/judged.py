"""Which images a network is judged on: those of the data set it was trained on, or any folder of photographs.

Of another folder every image counts, of one with parts those of one part. Class folders are matched to the network's
classes by name, of a network for ImageNet also by their WordNet numbers. Images of the training among them are told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from residual.data.changes import changed
from residual.data.choosing import some_classes
from residual.data.datasets import DataSettings, open_dataset
from residual.data.folder import Wishes, open_folder, open_to_judge
from residual.data.layout import Layout, some
from residual.data.places import holds_photographs, scan
from residual.data.reading import FolderSource
from residual.data.source import Dataset, Source, everything, names
from residual.data.splits import FIRST
from residual.data.tables import is_table
from residual.data.trees import inside
from residual.errors import DataError, ResidualError, UsageError, log
from residual.evaluation.classifier import Classifier
from residual.evaluation.imported import numbered
from residual.models.interchange.class_names import imagenet_names, imagenet_numbers
from residual.runs.folder import find_run

Split = Literal["test", "validation", "training"]
_MOST = 200_000  # files of a training that are looked at, to find copies of them elsewhere


@dataclass(frozen=True)
class Judged:
    """Images with their labels, and what a figure over them must be called."""

    dataset: str
    origin: str
    split: Split
    source: Source
    indices: Tensor
    own: bool = True
    """Whether they are of the data set that the network was trained on."""


def select(
    classifier: Classifier,
    place: str | os.PathLike[str] | None,
    split: Split | None = None,
    path: str | None = None,
    follow_links: bool = False,
) -> Judged:
    """The images meant. Without a split, the test images; where there are none, the held-out ones.

    Args:
        place: where the classifier came from; a run knows which images it held out.
        path: the data where they are now, or another folder of photographs with classes of the same names.

    Raises:
        DataError: the images are not there, or not those of the training, or of unknown classes.
        UsageError: there are no images of that split, or no image has the channels that the network takes.
    """
    classifier.preprocessing.mind_pictures(classifier.spec.name)
    facts = classifier.data
    folder = Path(path).expanduser() if path is not None else None
    if folder is None or not (facts["name"] == "folder" or holds_photographs(folder)):
        return _own(open_data(classifier, path, follow_links, place), place, split)
    layout = _scan(folder, facts, follow_links)
    if facts["name"] == "folder":
        try:
            dataset = open_folder(folder, _wishes(classifier, follow_links), layout=layout)
        except DataError:
            pass  # no data set to train on; it may be one to judge on, and else the reason is given below
        else:
            if dataset.checksums == facts["checksums"]:
                return _own(_as_trained(dataset, classifier), place, split)
    found = _other(classifier, layout, split)
    _tell_of_training(classifier, place, folder, found)
    return found


def open_data(
    classifier: Classifier,
    path: str | None = None,
    follow_links: bool = False,
    place: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set a classifier was trained on, from where it was then or from `path`.

    Args:
        place: where the classifier came from; a run knows which files it had.

    Raises:
        DataError: it is not there, or not the same files.  UsageError: they have other channels than it takes.
    """
    facts = classifier.data
    if facts["name"] == "folder":
        folder = Path(path or facts["origin"]).expanduser()
        dataset = open_folder(folder, _wishes(classifier, follow_links), layout=_scan(folder, facts, follow_links))
    else:
        dataset = open_dataset(DataSettings(dataset=facts["name"], path=path or _origin(facts)))
    if dataset.channels != (takes := classifier.preprocessing.channels):
        what = f"these images have {dataset.channels} channels and the model takes {takes}"
        raise UsageError(what, dataset.origin, "judge image files with --data FOLDER, which are brought to them")
    if dataset.checksums != facts["checksums"]:
        listed: Mapping[str, Any] = {}
        with suppress(ResidualError):
            listed = find_run(os.fspath(place)).split() if place is not None else {}
        what = "these are not the files the model was trained and is to be judged on"
        remedy = "give back the former files, or judge others with --data FOLDER"
        raise DataError(f"{what}{changed(listed, dataset, 'classes' in facts)}", dataset.origin, remedy)
    return _as_trained(dataset, classifier)


def _as_trained(dataset: Dataset, classifier: Classifier) -> Dataset:
    """The images of the classes that the network was trained on."""
    return some_classes(dataset, classifier.data.get("classes"))


def _origin(facts: dict[str, Any]) -> str | None:
    """Where the data were at training; what is embedded has no absolute place."""
    origin = Path(facts["origin"]).expanduser()
    return str(origin) if origin.is_absolute() and origin.exists() else None


def _scan(folder: Path, facts: dict[str, Any], follow_links: bool) -> Layout:
    if not os.path.lexists(folder):
        raise DataError("no such folder", folder, "name the folder of photographs with --data")
    links, group = follow_links or bool(facts.get("follow_links")), facts.get("group")
    if group is not None and is_table(folder):
        with suppress(DataError):  # another table need not have that column
            return scan(folder, links, group=group)
    return scan(folder, links)


def _wishes(classifier: Classifier, follow_links: bool) -> Wishes:
    """The folder as the classifier sees it; what training left out, it leaves out, as the checksum will tell."""
    facts, sight = classifier.data, classifier.preprocessing
    return Wishes(
        image_size=sight.image_size[0],
        channels=sight.channels,
        resize=sight.resize,
        interpolation=sight.interpolation,
        crop=sight.crop,
        test=float(facts.get("test_share", 0.0)),
        quarantine=1.0,
        follow_links=follow_links or bool(facts.get("follow_links")),
        group=facts.get("group"),
        division=facts.get("division", FIRST),
    )


def _own(dataset: Dataset, place: str | os.PathLike[str] | None, split: Split | None) -> Judged:
    """Images of the data set the network was trained on."""

    def judged(name: Split, source: Source, indices: Tensor) -> Judged:
        if not len(indices):
            remedy = "it trained on all: name others with --data" if name == "validation" else "choose validation"
            raise UsageError(f"this run has no {name} images", "--split", remedy)
        return Judged(dataset.name, dataset.origin, name, source, indices)

    chosen = split or ("test" if len(dataset.test) else "validation")
    if chosen == "test":
        return judged("test", dataset.test, everything(dataset.test))
    if chosen == "validation" and dataset.validation is not None:
        return judged("validation", dataset.validation, everything(dataset.validation))
    try:
        run = find_run(os.fspath(place) if place is not None else None)
    except UsageError as error:
        raise UsageError(
            f"only a run knows its {chosen} images", error.where, "name the run, or use --split test"
        ) from None
    source = dataset.train if chosen == "training" else dataset.held
    return judged(chosen, source, torch.tensor(run.split()[chosen], dtype=torch.int64))


def _other(classifier: Classifier, layout: Layout, split: Split | None) -> Judged:
    """All images of a part of another folder; a folder without parts is taken as a test set."""
    names = classifier.class_names
    folders = {name for classes in layout.parts.values() for name in classes}
    if names == numbered(len(names)) and not folders & {*names}:
        what = (
            f"the classes of the network are only numbered, and those of the folder have names, {some(sorted(folders))}"
        )
        remedy = "import its weights again with --classes FILE, which has the name of a class on each line"
        raise DataError(what, layout.root, remedy)
    aliases = dict(zip(imagenet_numbers(), names, strict=True)) if names == imagenet_names() else None
    parts = open_to_judge(layout, names, _wishes(classifier, False), aliases)
    named: dict[Split, Source | None] = {
        "test": parts.get("test", parts.get("all")),
        "validation": parts.get("validation"),
        "training": parts.get("train"),
    }
    chosen = split or ("test" if named["test"] is not None else "validation")
    source = named[chosen]
    if source is None:
        there = ", ".join(part for part, found in named.items() if found is not None)
        raise UsageError(f"{layout.root} has no {chosen} part", "--split", f"it has {there}")
    return Judged("folder", str(layout.root.absolute()), chosen, source, everything(source), own=False)


def _tell_of_training(
    classifier: Classifier, place: str | os.PathLike[str] | None, folder: Path, judged: Judged
) -> None:
    """Say how many of the images were trained on, by what the run keeps of its own; else whether there may be such."""
    facts = classifier.data
    if facts["name"] != "folder" or "origin" not in facts:
        return
    origin, here = base_of(Path(facts["origin"]).expanduser()), base_of(folder)
    near = inside(here, origin) or inside(origin, here)
    told = "judge others, or name the very files of the training"
    trained = trained_by(place)
    if trained is None:
        if near:
            what = "images of the training may be among these, for they lie where it had its own (%s): %s"
            log.warning(what, folder, told)
        return
    count, words = seen_in_training(origin, trained, here, judged.source, judged.indices)
    if count:
        what = "%s of the %s images %s, and the figure will flatter (%s): %s"
        log.warning(what, f"{count:,}", f"{len(judged.indices):,}", words, folder, told)


def seen_in_training(origin: str, trained: set[str], here: str, source: Source, indices: Tensor) -> tuple[int, str]:
    """How many of some images were trained on, and by what they are known.

    Args:
        origin, here: what the paths of the images that were trained on, and of these, count from.
        trained: paths.
    """
    found = names(source, indices)
    if inside(here, origin) or inside(origin, here):
        own = {os.path.normpath(os.path.join(origin, name)) for name in trained}
        count = sum(os.path.normpath(os.path.join(here, name)) in own for name in found)
        return count, "lie where images of the training lay"
    if os.path.isdir(origin) and os.path.isdir(here) and isinstance(source, FolderSource) and len(trained) <= _MOST:
        return _copies(origin, trained, source, indices), "are images of the training, bit for bit"
    if os.path.isdir(origin) and os.path.isdir(here):
        count = sum(name in trained and _alike(os.path.join(origin, name), os.path.join(here, name)) for name in found)
        return count, "have the names and sizes of images of the training"
    count = sum(name in trained for name in found)  # other images may have the same names, as 1.jpg
    return count if 2 * count > len(found) else 0, "have the names of images of the training"


def base_of(place: Path) -> str:
    """What the paths of images at a place count from."""
    return os.path.realpath(place.parent if is_table(place) else place)


def trained_by(place: str | os.PathLike[str] | None) -> set[str] | None:
    """The files that a run, or that of a model folder within one, was trained on; None where there is no such run."""
    if place is None:
        return None
    for named in filter(None, (os.fspath(place), os.path.dirname(os.fspath(place).rstrip("/" + os.sep)))):
        with suppress(ResidualError, LookupError, TypeError):
            return set(find_run(named).split()["files"]["training"])
    return None


def _copies(origin: str, trained: set[str], source: FolderSource, indices: Tensor) -> int:
    """How many images are, whatever their names, files that were trained on and are still there."""
    digests = source.digests(indices)
    wanted, copies = {source.files[number].size for number in indices.tolist()}, set()
    for name in trained:
        with suppress(OSError, ValueError):
            path = os.path.join(origin, name)
            if os.stat(path).st_size in wanted:
                with open(path, "rb") as stream:
                    copies.add(hashlib.file_digest(stream, "sha256").hexdigest())
    return sum(digest in copies for digest in digests)


def _alike(one: str, other: str) -> bool:
    """Whether two files are as large as each other."""
    with suppress(OSError, ValueError):
        return os.stat(one).st_size == os.stat(other).st_size
    return False

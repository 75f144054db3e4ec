"""The data sets by name, and how a recipe asks for one.

`open_dataset` finds, verifies and (where it pays) caches; `divide` holds back validation images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from residual.data import cifar, published
from residual.data.augment import AugmentSettings
from residual.data.balance import Sampling
from residual.data.cache import cached
from residual.data.checking import nothing
from residual.data.choosing import drawn, some_classes
from residual.data.cifar100 import CIFAR100
from residual.data.digits import read_digits
from residual.data.folder import Wishes, open_folder
from residual.data.geometry import Interpolation, Resize
from residual.data.layout import ARCHIVES
from residual.data.places import holds_photographs, is_file_of_photographs
from residual.data.preprocessing import Normalisation
from residual.data.source import Dataset, FileSource, everything
from residual.data.splits import FIRST, TOGETHER, divided, stratified
from residual.data.workers import Workers
from residual.device import at_home
from residual.errors import DataError, argument

Name = Literal["digits", "cifar-10", "cifar-100", "folder"]
_OTHER = "check the path; --data names another"
FAMILIES: dict[str, cifar.Family] = {"cifar-10": cifar.CIFAR10, "cifar-100": CIFAR100}


class DataSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[data]` table holds."""

    dataset: Name = Field("digits", description="which data set")
    labels: Literal["fine", "coarse"] = Field("fine", description="for cifar-100: its 100 classes or 20 superclasses")
    path: str | None = Field(None, description="the folder or archive it is read from")
    validation: float = Field(0.1, ge=0, le=0.5, description="share of each class held out of training")
    classes: tuple[str, ...] | None = Field(None, min_length=2, description="use the images of these classes alone")
    limit: int | None = Field(None, ge=10, description="use this many training images, the same share of each class")
    per_class: int | None = Field(None, ge=1, description="use this many training images of each class")
    draw: int = Field(0, ge=0, lt=2**53, description="for per_class: random seed that selects the images")
    normalisation: Normalisation = Field("mean-std", description="constants measured on the training images")
    image_size: int | None = Field(None, ge=8, le=1024, description="side in pixels; left open, the images decide")
    test_size: int | None = Field(None, ge=8, le=1024, description="side at which images are judged, if another")
    resize: Resize = Field("crop", description="of files: crop the ends, pad with black, or squash")
    interpolation: Interpolation = Field("bilinear", description="of files that are resized")
    crop: float = Field(1.0, ge=0.1, le=1, description="share of a resized side that the centre keeps")
    channels: Literal[1, 3] | None = Field(None, description="1 is grey, 3 is colour; left open, the images decide")
    test: float = Field(0.0, ge=0, le=0.5, description="share of each class set aside for the test")
    quarantine: float = Field(0.01, ge=0, le=0.5, description="largest share of unusable training files to leave out")
    follow_links: bool = Field(False, description="follow links that lead out of the folder")
    group: str | None = Field(None, description="column of a table: images with the same value stay in the same split")
    threads: int = Field(0, ge=0, le=256, description="how many decode images at a time; 0 is automatic")
    workers: Workers = Field("threads", description="what decodes images: threads or processes; the same pixels")
    sampling: Sampling = Field("natural", description="balanced: every class equally often, its images by turns")
    augment: AugmentSettings = AugmentSettings()

    @model_validator(mode="after")
    def _turns_need_epochs(self) -> DataSettings:
        if self.sampling == "balanced" and self.augment.mirror_by == "turns":
            raise ValueError("sampling is 'balanced' and augment.mirror_by is 'turns'; set mirror_by to 'chance'")
        return self

    @model_validator(mode="before")
    @classmethod
    def _recorded_name(cls, table: Any) -> Any:
        """Runs record cifar-100 with coarse labels as cifar-100-coarse; that name can be asked for, too."""
        if isinstance(table, dict) and table.get("dataset") == "cifar-100-coarse":
            return table | {"dataset": "cifar-100", "labels": "coarse"}
        return table

    @field_validator("classes", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """`7,8,9` is a list as well, and the number 7 the name of a class."""
        if isinstance(value, str):
            return [name.strip() for name in value.split(",")]
        return [str(name) if type(name) is int else name for name in value] if isinstance(value, list) else value

    @field_validator("per_class")
    @classmethod
    def _not_with_a_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("limit") is not None:
            raise ValueError("data.limit says how many images as well, leave one of them out")
        return value

    @field_validator("labels")
    @classmethod
    def _only_where_there_are_two(cls, value: str, info: ValidationInfo) -> str:
        if value != "fine" and info.data.get("dataset", "cifar-100") != "cifar-100":
            raise ValueError("only cifar-100 has coarse labels, leave it out")
        return value

    @field_validator(
        "image_size",
        "test_size",
        "resize",
        "interpolation",
        "crop",
        "channels",
        "test",
        "quarantine",
        "follow_links",
        "group",
    )
    @classmethod
    def _only_for_folders(cls, value: Any, info: ValidationInfo) -> Any:
        untouched = value == cls.model_fields[str(info.field_name)].default
        if not untouched and info.data.get("dataset", "folder") != "folder":
            raise ValueError(f"only a folder of photographs has it, {info.data['dataset']} does not; leave it out")
        return value


@dataclass(frozen=True)
class Division:
    """Numbers of the images that are trained on, in `dataset.train`, and held out, in `dataset.held`: int64, sorted."""

    training: Tensor
    validation: Tensor


def _open_digits(path: Path | None, _: DataSettings) -> Dataset:
    if path is not None:
        raise DataError("the digits are embedded and read from no folder", path, "leave --data out, or name a recipe")
    return read_digits()


def _open_cifar(path: Path | None, settings: DataSettings) -> Dataset:
    family, place = FAMILIES[settings.dataset], _place_of_cifar(path, settings)
    names = [name for form in family.forms for name in form.files]
    stamp = {
        "place": str(place.resolve()),
        "files": published.stamps(place, names),
        "checksums": {name: value for form in family.forms for name, value in form.files.items()},
        "labels": settings.labels,
    }
    found = cached(settings.dataset, stamp, lambda: cifar.read(family, place, settings.labels))
    # The copy may have been made through another name of the same place, such as a link that is gone since.
    return replace(found, origin=str(place.absolute()))


def _place_of_cifar(path: Path | None, settings: DataSettings) -> Path:
    family = FAMILIES[settings.dataset]
    names = [name for form in family.forms for name in (form.folder, form.archive)]
    return cifar.locate(path if path is not None else _search(settings.dataset, *names), family)


def open_photographs(
    path: Path | None,
    settings: DataSettings,
    heed: Callable[[], None] = nothing,
    anew: bool = False,
    division: int = TOGETHER,
) -> Dataset:
    """The data set in a folder of class folders; `heed` is called while the images are checked."""
    if path is None:
        here = next((p for p in sorted(Path().glob("*photos*")) if p.is_dir() and holds_photographs(p)), None)
        remedy = "as in `residual train PHOTOS/`"
        if here is not None:
            remedy = f"the folder here is meant with a slash, `residual train {argument(here)}/`"
        raise DataError("no folder of photographs was named", "data.path", remedy)
    wished = {field.name: getattr(settings, field.name) for field in fields(Wishes) if field.name != "division"}
    return open_folder(path, Wishes(**wished, division=division), heed, anew=anew)


OPENERS: dict[Name, Callable[[Path | None, DataSettings], Dataset]] = {
    "digits": _open_digits,
    "cifar-10": _open_cifar,
    "cifar-100": _open_cifar,
}


def search_places() -> list[Path]:
    """Where a data set is looked for, and the first is where it is fetched to: RESIDUAL_DATA, ./data, here."""
    return [Path(p) for p in (os.environ.get("RESIDUAL_DATA"), "data", ".") if p]


def _search(title: str, *names: str) -> Path:
    """The first of the names found where data sets are looked for."""
    places = search_places()
    for place in places:
        for name in names:
            if (place / name).exists():
                return place / name
    raise DataError(
        f"{title} was not found",
        ", ".join(str(p) for p in places),
        f"`residual data fetch {title}` downloads it; or name the folder {names[0]} or {names[1]} with --data PATH, "
        "or set RESIDUAL_DATA to the folder that holds it",
    )


@at_home()
def open_dataset(
    settings: DataSettings, heed: Callable[[], None] = nothing, anew: bool = False, division: int = TOGETHER
) -> Dataset:
    """The data set a recipe asks for, verified; `heed` is called now and then, and may raise to stop.

    Args:
        anew: read every photograph, whatever is kept of it.
        division: by which rule photographs are held out: a run keeps the one that it began with.

    Raises:
        DataError: it is absent or damaged; the message says which file, and what to do.
    """
    try:
        path = Path(settings.path).expanduser() if settings.path is not None else None
    except RuntimeError:
        raise DataError("no such user", str(settings.path)[:200], _OTHER) from None
    if path is not None and settings.dataset != "digits":
        try:
            exists = path.exists()
        except OSError as error:
            raise DataError(f"no such folder or file: {error.strerror}", str(path)[:200], _OTHER) from None
        if not exists:
            raise DataError("no such folder or file", path, _OTHER)
    if settings.dataset == "folder":
        return some_classes(open_photographs(path, settings, heed, anew, division), settings.classes)
    try:
        return some_classes(OPENERS[settings.dataset](path, settings), settings.classes)
    except DataError:
        if path is None or not holds_photographs(path):
            raise
        what = f"these are class folders of photographs, not {settings.dataset}"
        raise DataError(what, path, f"train on them with `residual train {argument(os.path.join(path, ''))}`") from None


def recognise(path: Path) -> DataSettings:
    """The data set that lies at a path, judged by the names of its files; what is in them is said when it is opened.

    Raises:
        DataError: none is known by these names.
    """
    for name, family in FAMILIES.items():
        if published.recognised(path, family.forms) is not None:
            return DataSettings.model_validate({"dataset": name, "path": str(path)})
    if path.is_dir() or is_file_of_photographs(path):
        return DataSettings.model_validate({"dataset": "folder", "path": str(path)})
    archives = [form.archive for family in FAMILIES.values() for form in family.forms]
    unpack = "unpack the archive; or " if path.suffix.lower() in ARCHIVES else ""
    raise DataError(
        "no data set is recognised here",
        path,
        f"{unpack}name a folder, a .tar, .tar.gz, .csv or .tsv of photographs, or an official {', '.join(archives)}",
    )


def read_anew(settings: DataSettings) -> Dataset:
    """As `open_dataset`, but every byte of every file is read again, whatever copy or memory of it there is."""
    if settings.dataset not in FAMILIES:
        return open_dataset(settings, anew=True)
    place = _place_of_cifar(Path(settings.path).expanduser() if settings.path else None, settings)
    return cifar.read(FAMILIES[settings.dataset], place, settings.labels)


@at_home()
def divide(dataset: Dataset, settings: DataSettings) -> Division:
    """Which training images are used at all (`limit`, `per_class`), and which of these are held out.

    Raises:
        DataError: images are to be held out or set aside for the test, and the share is too small for any.
    """
    if settings.test and not len(dataset.test):
        why = "no group is small enough" if dataset.groups is not None else "there are too few images"
        what = f"{why} to set a share of {settings.test:g} of the images aside for the test"
        raise DataError(what, dataset.origin, "raise data.test, or leave it out")
    labels, division = dataset.train.labels, dataset.facts.get("division", FIRST)
    used = torch.arange(len(labels))
    if settings.per_class is not None:
        used = drawn(labels, settings.per_class, settings.draw, dataset)
    if settings.limit is not None and settings.limit < len(labels):
        share = 1 - settings.limit / len(labels)
        used, _ = stratified(labels, share, f"{dataset.name}-limit", division=division)
    if dataset.validation is not None:
        return Division(used, everything(dataset.validation))
    groups = None if dataset.groups is None else dataset.groups[used]
    digests = dataset.train.digests(used) if isinstance(dataset.train, FileSource) else ()
    kept, held = divided(labels[used], settings.validation, f"{dataset.name}-validation", groups, division, digests)
    if settings.validation and groups is not None and not len(held):
        what = f"no group is small enough to hold a share of {settings.validation:g} of the images out"
        raise DataError(what, dataset.origin, "give a split column, or raise data.validation")
    return Division(used[kept], used[held])

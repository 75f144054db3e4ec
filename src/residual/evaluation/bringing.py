"""Trained weights from anywhere: a run, a model folder, a checkpoint, a file of another library, or by name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from residual.data.download import Told
from residual.data.geometry import Interpolation
from residual.data.weights import fetch_weights
from residual.device import at_home
from residual.errors import ModelError, UsageError, is_whole, log, nearest
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.imported import classifier_of
from residual.evaluation.use import read_classifier
from residual.files import Facts, digest
from residual.models import pack_weights
from residual.models.interchange.beside import labels_beside, network_beside, sight_beside
from residual.models.interchange.families import Brought, Library, bring_in
from residual.models.interchange.foreign import Foreign, in_hub_folder, is_named_like_weights, read_foreign
from residual.models.interchange.published import find_published
from residual.runs.folder import find_run

_USUAL_SIDE = 224
"""Of torchvision's networks."""


@dataclass(frozen=True)
class Origin:
    """A classifier, and where it is from: `weights` names it again, `sha256` is that of the file of its weights.

    `said` is what was assumed for it, line by line.
    """

    classifier: Classifier
    facts: Facts
    said: tuple[str, ...]


def weight_file(weights: str, told: Told = lambda _: None) -> tuple[Path, int | None]:
    """The file meant by a path or by `torchvision:NAME`; of published weights also the side they resize images to.

    A folder as the Hugging Face hub has them means the weights in it.

    Args:
        told: called several times a second while they are downloaded.
    """
    path, published = _meant(weights)
    if not published:
        return path, None
    found = find_published(weights)
    return fetch_weights(found.file, told), found.resize


def _meant(weights: str) -> tuple[Path, bool]:
    """The path, and whether it is none but the name of published weights."""
    path = Path(os.path.expanduser(weights))
    path = in_hub_folder(path) or path
    library, colon, _ = weights.partition(":")
    # A drive of Windows is one letter; and a file of that very name is a file.
    return path, bool(colon) and len(library) > 1 and not {"/", "\\"} & {*library} and not os.path.lexists(path)


@dataclass(frozen=True)
class Asked:
    """What is asked of weights from elsewhere; goes before what their file, or their library, says."""

    library: Library = "auto"
    part: str | None = None
    class_names: Sequence[str] | None = None
    channels: int | None = None
    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    stem: str | None = None

    def check(self) -> None:
        """Refuse what can be asked of no weights.

        Raises:
            UsageError: with the option of `residual import`.
        """
        for flag, word, known in (
            ("--from", self.library, Library),
            ("--interpolation", self.interpolation, Interpolation),
            ("--stem", self.stem, Literal["3x3", "3x3/2"]),
        ):
            if word is not None and word not in get_args(known):
                raise UsageError(f"{word!r:.40} is unknown", flag, nearest(str(word), get_args(known)))
        for flag, number, least, most, what in (
            ("--channels", self.channels, 1, 1024, "number"),
            ("--image-size", self.image_size, 8, 4096, "side"),
            ("--resize", self.resize, 8, 1 << 16, "side"),
        ):
            if number is not None and (not is_whole(number) or not least <= number <= most):
                raise UsageError(f"{number!r:.40} is out of range", flag, f"choose a {what} between {least} and {most}")
        if isinstance(self.class_names, str):
            raise UsageError(f"{self.class_names!r:.60} is a single text", "--classes", "give one name for each class")
        if (self.mean is None) != (self.std is None):
            raise UsageError(
                "--mean and --std belong together", "import", "give both, as of the training of the weights"
            )
        for flag, numbers, low in (("--mean", self.mean, 0.0), ("--std", self.std, 1e-6)):
            if numbers is not None and not _between(numbers, low):
                remedy = "give a number for each channel, of pixels from 0 to 1, as in 0.485,0.456,0.406"
                raise UsageError(f"{str(numbers)[:60]!r} cannot be used", flag, remedy)

    def images(self) -> dict[str, Any]:
        """What of it is of the images, by the name of its part."""
        found: dict[str, Any] = {} if self.image_size is None else {"image_size": int(self.image_size)}
        if self.mean is not None and self.std is not None:
            found |= {"mean": tuple(map(float, self.mean)), "std": tuple(map(float, self.std))}
        return found


class Imported(NamedTuple):
    """A classifier of weights from elsewhere, the file and the network it is of, and what was assumed."""

    classifier: Classifier
    foreign: Foreign
    brought: Brought
    said: list[str]


@at_home()
def import_file(weights: str, asked: Asked, told: Told = lambda _: None) -> Imported:
    """The classifier of a file of weights, or of published ones.

    Args:
        told: as for `weight_file`.

    Raises:
        UsageError: something cannot be asked.  ModelError: what is there cannot be used.
    """
    asked.check()
    path, usual = weight_file(weights, told)
    foreign = read_foreign(path, asked.part)
    library: Library = "torchvision" if usual is not None else asked.library
    brought = bring_in(foreign, library, path, asked.channels, asked.stem, lambda: network_beside(path))
    own = brought.description is not None  # which goes before what stands beside it
    side = asked.resize
    if side is None and usual is not None:  # the same share of a larger or smaller image
        side = usual if asked.image_size is None else round(asked.image_size * usual / _USUAL_SIDE)
    classifier, said = classifier_of(
        brought,
        foreign,
        None if asked.class_names is None else [str(name) for name in asked.class_names],
        side,
        asked.interpolation,
        None if own else sight_beside(path),
        None if own else labels_beside(path),
        asked.images(),
    )
    return Imported(classifier, foreign, brought, said)


def import_weights(
    weights: str | os.PathLike[str],
    told: Told = lambda _: None,
    *,
    library: Library = "auto",
    part: str | None = None,
    class_names: Sequence[str] | None = None,
    channels: int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    interpolation: Interpolation | None = None,
    stem: str | None = None,
) -> Classifier:
    """Trained weights as a classifier: `residual.import_weights("torchvision:resnet50")`, or a file of another library.

    What a file does not say of images and classes, and is not said here, is taken from what its library publishes, and
    logged. Of a network of `residual.build` load its state and use `Classifier.of`.

    Args:
        weights: published weights by name, or a file of torchvision, timm, Transformers, Keras, safetensors or a
            checkpoint.
        told: called several times a second while weights are downloaded.
        library: whose names the tensors have; "auto" finds out.
        part: which dictionary of a checkpoint that holds several, as "state_dict_ema".
        class_names: in the order of the labels.
        channels: of the images it shall take, if not those it was trained on.
        image_size: the side of the images it takes.
        mean, std: what is taken from pixels / 255 and what they are divided by then, a number for each channel.
        resize: the side to which images are resized before the centre is cut.
        interpolation: how they are resized.
        stem: of a ResNet with torchvision's names for small images, whose tensors do not tell it: "3x3" or "3x3/2".

    Raises:
        UsageError: no weights are published by that name, or something cannot be asked of them.
        ModelError: what is there cannot be used.
    """
    asked = Asked(library, part, class_names, channels, image_size, mean, std, resize, interpolation, stem)
    place = os.fspath(weights)
    more = (part, class_names, channels, image_size, mean, std, resize, interpolation, stem)
    try:
        if library != "auto" or any(one is not None for one in more) or is_weights(place):
            found, said = import_file(place, asked, told)[::3]
        else:
            found, said = bring(place).classifier, []
    except (UsageError, ModelError) as error:
        raise type(error)(*map(_in_python, (error.what, error.where, error.remedy))) from None
    for line in said:
        log.info("%s", _in_python(line))
    return found


_FLAGS: Final = {"--from": "library", "--classes": "class_names"} | {
    f"--{name.replace('_', '-')}": name
    for name in ("part", "channels", "image_size", "mean", "std", "resize", "interpolation", "stem")
}


def _in_python(text: str) -> str:
    """Words about the options of `residual import`, with the arguments that these are here."""
    text = re.sub(r"--(from|part|stem) (\w[\w.-]*)", lambda found: f'{_FLAGS[f"--{found[1]}"]}="{found[2]}"', text)
    return re.sub(r"--[a-z-]+", lambda found: _FLAGS.get(found[0], found[0]), text)


def _between(numbers: Sequence[float], low: float) -> bool:
    try:
        found = [float(number) for number in numbers]
    except (TypeError, ValueError):
        return False
    return bool(found) and all(low <= number <= 1 for number in found)


def is_weights(place: str) -> bool:
    """Whether a place is published weights or a file of some, and no run or model folder."""
    path, published = _meant(place)
    return published or (is_named_like_weights(path) and not path.is_dir())


def bring(place: str, told: Told = lambda _: None) -> Origin:
    """The classifier that `place` names.

    Args:
        told: as for `weight_file`.

    Raises:
        UsageError: there is no such run, and no weights are published by that name.
        ModelError: what is there cannot be used.
    """
    if is_weights(place):
        try:
            classifier, foreign, _, said = import_file(place, Asked(), told)
        except ModelError as error:
            raise _of_import(error) from None
        facts: Facts = {
            "weights": place,
            "sha256": foreign.sha256,
            "network": classifier.spec.name,
            "form": foreign.form,
        }
        return Origin(classifier, facts, tuple(said))
    path = Path(os.path.expanduser(place))
    # The run is named by its path: `last` is another one tomorrow.
    named = str(path if os.path.exists(path / DESCRIPTION) else find_run(place).path)
    classifier = read_classifier(named)
    facts = {
        "weights": named,
        "sha256": digest(pack_weights(classifier.network)),
        "network": classifier.spec.name,
        "run": classifier.provenance.get("run"),
        "step": classifier.provenance.get("step"),
        "data": classifier.provenance.get("data", {}).get("name"),
    }
    return Origin(classifier, facts, ())


def _of_import(error: ModelError) -> ModelError:
    """The error; where an option would help that only `residual import` has, with what to do then."""
    if not re.search(r"--(from|part|classes|stem)\b", error.remedy):
        return error
    remedy = f"{error.remedy}, of `residual import`, and begin from the model folder it makes"
    return ModelError(error.what, error.where, remedy)

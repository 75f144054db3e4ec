"""All families of names, which of them a file belongs to, and the network that comes of it.

`auto` takes the one family whose names are there. torchvision and timm name their ResNets alike: torchvision is then
taken, and said to be. What belongs to none is told with the names found and the nearest family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from residual.errors import ModelError
from residual.models.interchange import cifar_resnets, keras, keras_v2, own, timm, torchvision, transformers
from residual.models.interchange.adapting import adapt
from residual.models.interchange.conversion import Family, Report, Shapes, Sight, convert, described, without_prefix
from residual.models.interchange.foreign import Foreign, first
from residual.models.interchange.last_layer import refuse_headless
from residual.models.networks import ResidualNetwork
from residual.models.spec import NetworkSpec

Library = Literal["auto", "torchvision", "timm", "transformers", "keras", "cifar", "safetensors"]

LIBRARIES: Final[dict[str, tuple[Family, ...]]] = {
    "torchvision": (torchvision.FAMILY, torchvision.VGG),
    "timm": (timm.FAMILY, timm.D, timm.V2),
    "transformers": (transformers.FAMILY,),
    "keras": (keras.FAMILY, keras_v2.FAMILY),
    "cifar": (cifar_resnets.FAMILY,),
    "safetensors": (own.FAMILY,),
}
_ALIKE: Final = "timm names these tensors alike: taken as torchvision's; --from timm says otherwise"
FAMILIES: Final = {family.name: family for families in LIBRARIES.values() for family in families}


class Brought(NamedTuple):
    """A network from elsewhere. `description` is what a file of ours says of itself; else `sight` holds."""

    network: ResidualNetwork
    report: Report
    sight: Sight | None
    description: dict[str, Any] | None


def bring_in(
    foreign: Foreign,
    library: Library,
    where: object,
    channels: int | None = None,
    stem: str | None = None,
    beside: Callable[[], Mapping[str, Any]] = dict,
) -> Brought:
    """The network of a foreign file.

    Args:
        library: whose names its tensors have; `auto` finds out and says so.
        channels: of the images it shall take, if not those it was trained on.
        stem: that of a ResNet with torchvision's names, if not 7x7.
        beside: gives the parts of a network of Transformers that a file beside the weights tells; it is not asked where
            the weights describe themselves.

    Raises:
        ModelError: it belongs to no family, or not to that of the library, or a tensor does not fit.
    """
    description = own.description_of(foreign, where)
    if description is not None:
        spec = NetworkSpec.model_validate(description["network"])
        family = FAMILIES.get(description["names"])
        if family is None or library not in ("auto", "safetensors", _library(family)):
            raise ModelError(
                f"the file has the names of {description['names']:.40}", where, "leave out --from, or give it auto"
            )
        network, report = convert(foreign, family, where, spec)
        found = Brought(network, report, None, description)
    else:
        family, said = detect(foreign, library, where)
        remedy = "name the right library with --from" if said == (_ALIKE,) else ""
        laid, told = _told(foreign, family, where, stem, beside())
        network, report = convert(foreign, family, where, laid, remedy)
        report = report.with_remarks(*said, *(told or family.assumed(network.spec)))
        found = Brought(network, report, family.sight(network.spec), None)
    if channels is not None and channels != found.network.spec.channels:
        network, words = adapt(found.network, channels)
        found = found._replace(network=network, report=found.report.with_remarks(words))
    return found


def detect(foreign: Foreign, library: Library, where: object) -> tuple[Family, tuple[str, ...]]:
    """The family whose names a file has, among those of a library; and what must be said about the choice."""
    tensors, _ = without_prefix(foreign.tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    libraries = list(LIBRARIES) if library == "auto" else [library]
    found = [(name, family) for name in libraries for family in LIBRARIES[name] if family.looks_like(shapes)]
    near = [family for _, family in found] or FAMILIES.values()
    refuse_headless(shapes, {family.name: family.example for family in near}, where)
    if not found:
        raise ModelError(*_unknown(shapes, library, where))
    family = found[0][1]
    if len(found) > 1 and [n for n, _ in found] != ["torchvision", "timm"]:
        names = " and of ".join(n for n, _ in found)
        raise ModelError(f"the file has names of {names}", where, "name one with --from")
    if len(found) > 1:
        return family, (_ALIKE,)
    return family, (f"recognised by its names: {family.title}",) if library == "auto" else ()


def _told(
    foreign: Foreign, family: Family, where: object, stem: str | None, beside: Mapping[str, Any]
) -> tuple[NetworkSpec | None, tuple[str, ...]]:
    """The network, where more than names and shapes tells it, and what is said of that; None leaves it to those."""
    if stem is not None and family is not torchvision.FAMILY:
        raise ModelError(f"{family.title} has stems of its own, which the names tell", where, "leave out --stem")
    if stem is None and (not beside or family is not transformers.FAMILY):
        return None, ()
    tensors, _ = without_prefix(foreign.tensors)
    shapes = {name: tuple(own.shape) for name, own in tensors.items()}
    if stem is not None:
        return torchvision.recognise(shapes, str(where), stem), ()
    spec = family.recognise(shapes, str(where))
    if spec.unit != "bottleneck":
        return spec, ()
    said = f"bottlenecks have their stride in the {beside['stride']}, as the config.json beside the weights says"
    return described(str(where), spec.model_dump(exclude={"name"}) | {**beside}), (said,)


def _library(family: Family) -> str:
    return next(name for name, families in LIBRARIES.items() if family in families)


def _unknown(shapes: Shapes, library: str, where: object) -> tuple[str, object, str]:
    """What to say of a file whose names are those of no family asked for."""
    others = [name for name, families in LIBRARIES.items() if any(f.looks_like(shapes) for f in families)]
    if others:
        return f"the file has not the names of {library}, but of {others[0]}", where, f"--from {others[0]}"
    given = {_form(name) for name in shapes}
    counts = {name: max(_likeness(given, family) for family in families) for name, families in LIBRARIES.items()}
    best = max(counts, key=lambda name: counts[name])
    nearest = f"nearest is {best}" if counts[best] else "none of the known libraries is near"
    words = first(sorted(shapes), 4)
    what = f"no network known here has these {len(shapes)} tensors: {words}"
    wanted = ", ".join(LIBRARIES[best if counts[best] else "torchvision"][0].example)
    return what, where, f"{nearest}, whose files hold {wanted}"


def _form(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _likeness(given: set[str], family: Family) -> int:
    return sum(_form(name) in given for name in family.example)

"""`residual explain`, and `residual.explain`."""

from __future__ import annotations

import json as json_
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from residual.cli.text import Whole

_PICTURE = re.compile(r"\d{3,}-[A-Za-z0-9_-]*\.png")

if TYPE_CHECKING:
    import torch

    from residual.analysis.explain import Explanation
    from residual.data.given import Given
    from residual.evaluation.use import Place


def explain(
    run: str,
    /,
    *images: str,
    out: str | None = None,
    top_k: Whole = 3,
    class_: Annotated[list[str] | None, Parameter(name="--class", allow_repeating=True, negative=())] = None,
    device: str = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show which parts of images are evidence for the top classes a network predicts (Grad-CAM).

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; `last` is the last run.
    images
        Image files (PNG, JPEG, WebP, GIF, BMP, TIFF, PPM), or folders of them.
    out
        The folder for the pictures, one for each image: the image, and a map for each class. Without it,
        RUN-explained in the working folder, after the run's name. Pictures of an earlier call are replaced.
    top_k
        How many classes to explain for each image.
    class_
        The class to explain instead of the first ones; more than one where it is given again.
    device
        auto, cpu, mps, cuda or cuda:N.
    json
        One JSON value instead of lines.
    """
    from residual.cli.predict import mind_first_word
    from residual.environment import check_versions
    from residual.errors import DataError, ResidualError, UsageError, check_top_k, log

    mind_first_word(run, "explain", images)
    check_top_k(top_k)
    if out is not None and Path(out).expanduser().exists() and not Path(out).expanduser().is_dir():
        raise UsageError("this is not a folder", out, "name a folder with --out")
    check_versions()
    import torch

    from residual.analysis.explain import explain as look
    from residual.analysis.explaining import draw_explanation
    from residual.analysis.style import is_ours
    from residual.cli.text import printable
    from residual.data.images import find_images, read_image
    from residual.device import choose_device, mind_fork
    from residual.evaluation.destination import mind_images, mind_places, photographs, tell_left
    from residual.evaluation.use import load, named

    mind_fork()
    run = named(run)
    album = Path(out).expanduser() if out is not None else Path(f"{Path(os.path.abspath(run)).name}-explained")
    files = find_images([Path(name).expanduser() for name in images])
    digits = max(3, len(str(len(files))))
    pictures = [album / f"{number:0{digits}}-{_safe(file.stem)}.png" for number, file in enumerate(files, 1)]
    mind_images(pictures[:1], "--out", [Path(name).expanduser() for name in images])
    classifier = load(run)
    classes = _places(class_, classifier.class_names, "--class") if class_ else None
    mind_images(pictures[:1], "--out", [photographs(classifier.provenance.get("data", {}))])
    mind_places(pictures, "--out", is_ours)
    others = {one for one in album.glob("*.png") if _PICTURE.fullmatch(one.name)} - {*pictures}
    classifier.network.to(torch.device(choose_device(device)))
    bad: list[ResidualError] = []
    rows = []
    for file, picture in zip(files, pictures, strict=True):
        try:
            pixels = read_image(file, classifier.preprocessing)
        except DataError as error:
            bad.append(error)
            others |= {picture} if picture.exists() else set()
            continue
        (found,) = look(classifier, [pixels], top_k, classes)
        draw_explanation(found, picture, file.name)
        answers = [{"class": name, "probability": share} for name, share in found.answers]
        rows.append({"file": str(file), "picture": str(picture), "predictions": answers})
        if not json:
            words = ", ".join(f"{name} {100 * share:.2f} %" for name, share in found.answers)
            print(printable(f"{picture}: {words}"), flush=True)
    if json:
        print(json_.dumps(rows))
    tell_left([one for one in sorted(others) if is_ours(one)])
    for one in bad:
        log.warning("left out: %s", one)
    if bad:
        what = f"{len(bad)} of {len(files)} images could not be read"
        raise DataError(what, bad[0].where, "replace or remove them")
    return 0


def explain_images(
    place: Place,
    images: Given | Iterable[Given],
    *,
    top_k: int = 3,
    classes: str | Sequence[str] | None = None,
    device: str | torch.device = "auto",
) -> list[Explanation]:
    """Where in images a network finds what speaks for its first classes (Grad-CAM): `residual.explain`.

    Args:
        place: a run, model folder or checkpoint, or a classifier; None for the last run.
        images: whatever `residual.predict` takes.
        top_k: how many classes to explain.
        classes: the name of a class to explain instead of the first ones, or several.

    Returns:
        For each image, in their order: `pixels` (uint8 CHW, as the network sees it), `answers` (class, probability)
        and `maps` (0..1, one HW for each answer). `residual.analysis.explaining.draw_explanation` draws one.

    Raises:
        DataError: an image cannot be read.  UsageError: what is given is no image, or there is no such class.
    """
    from residual.errors import check_top_k

    check_top_k(top_k)
    import torch

    from residual.analysis.explain import explain as look
    from residual.borrowed import borrowed
    from residual.data.given import gather
    from residual.device import choose_device, mind_fork
    from residual.evaluation.use import load

    mind_fork()
    classifier = load(place)
    wanted = [classes] if isinstance(classes, str) else classes
    chosen = None if wanted is None else _places(wanted, classifier.class_names, "classes")
    with borrowed():
        classifier.network.to(torch.device(choose_device(device)))
        return look(classifier, [image.read(classifier.preprocessing) for image in gather(images)], top_k, chosen)


def _places(wanted: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """The places of classes among all names, each once.

    Raises:
        UsageError: there is no such class; says what the nearest is.
    """
    from residual.errors import UsageError, nearest

    unknown = next((name for name in wanted if name not in names), None)
    if unknown is not None:
        raise UsageError(f"there is no class {str(unknown)[:80]!r}", where, nearest(str(unknown)[:80], names))
    if not wanted:
        raise UsageError("no class is named", where, "name one, or leave it out for the first answers")
    return [names.index(name) for name in dict.fromkeys(wanted)]


def _safe(stem: str) -> str:
    """A part of a file name that every system takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:60]

"""`residual explain`."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from residual.cli.text import Whole


def explain(
    run: str,
    /,
    *images: str,
    out: str,
    top_k: Whole = 3,
    device: str = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show where in image files a network finds what speaks for its first classes (Grad-CAM).

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; `last` is the last run.
    images
        PNG, JPEG or WebP files, or folders of them.
    out
        The folder for the pictures, one for each image: the image, and a map for each class.
    top_k
        How many classes to explain for each image.
    device
        auto, cpu, mps, cuda or cuda:N.
    json
        One JSON value instead of lines.
    """
    from residual.environment import check_versions
    from residual.errors import DataError, ResidualError, UsageError, log

    if not images:
        raise UsageError(
            "no image was named", "explain", "as in `residual explain RUN IMAGE_OR_FOLDER ... --out FOLDER`"
        )
    if top_k < 1:
        raise UsageError(f"top-k is {top_k}", "--top-k", "it must be at least 1")
    album = Path(out).expanduser()
    if album.exists() and not album.is_dir():
        raise UsageError("this is not a folder", album, "name a folder with --out")
    check_versions()
    import torch

    from residual.analysis.explain import explain as look
    from residual.analysis.explaining import draw_explanation
    from residual.cli.text import printable
    from residual.data.images import find_images, read_image
    from residual.device import choose_device, mind_fork
    from residual.evaluation.use import load

    mind_fork()
    classifier = load(run)
    files = find_images([Path(name).expanduser() for name in images])
    classifier.network.to(torch.device(choose_device(device)))
    digits = max(3, len(str(len(files))))
    bad: list[ResidualError] = []
    rows = []
    for number, file in enumerate(files, 1):
        try:
            pixels = read_image(file, classifier.preprocessing)
        except DataError as error:
            bad.append(error)
            continue
        (found,) = look(classifier, [pixels], top_k)
        picture = album / f"{number:0{digits}}-{_safe(file.stem)}.png"
        draw_explanation(found, picture, file.name)
        answers = [{"class": name, "probability": share} for name, share in found.answers]
        rows.append({"file": str(file), "picture": str(picture), "predictions": answers})
        if not json:
            words = ", ".join(f"{name} {100 * share:.2f} %" for name, share in found.answers)
            print(printable(f"{picture}: {words}"), flush=True)
    if json:
        print(json_.dumps(rows))
    for one in bad:
        log.warning("left out: %s", one)
    if bad:
        what = f"{len(bad)} of {len(files)} images could not be read"
        raise DataError(what, bad[0].where, "replace or remove them")
    return 0


def _safe(stem: str) -> str:
    """A part of a file name that every system takes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:60]

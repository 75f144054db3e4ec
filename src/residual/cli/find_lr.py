"""`residual find-lr`."""

from __future__ import annotations

import json as json_
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from residual.cli.asked import asked
from residual.cli.text import Number, Whole, beside, printable


def find_lr(
    what: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    data: str | None = None,
    follow_links: bool = False,
    start: Number = 1e-5,
    stop: Number = 10.0,
    steps: Whole = 100,
    shape: Literal["exponential", "linear"] = "exponential",
    batch_size: Whole | None = None,
    network: str | None = None,
    seed: Whole | None = None,
    device: str | None = None,
    set: Annotated[list[str] | None, Parameter(allow_repeating=True, negative=())] = None,
    out: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find a good learning rate: raise it over one short run and see where the loss falls and where it diverges.

    Works on copies: runs, their weights and their data order do not change.

    Parameters
    ----------
    what
        A recipe, a folder of photographs, or a run, whose newest weights are then taken; the digits unless given.
    from_
        Trained weights to begin from, as in `residual train`; what is frozen at first stays frozen.
    data
        The folder or archive with the images.
    follow_links
        Also follow links that lead out of the folder.
    start
        The first rate.
    stop
        The last rate; the test ends before it where the loss diverges.
    steps
        Batches to take.
    shape
        Raise the rate by a constant ratio (exponential) or a constant difference (linear).
    batch_size
        Images per step; a good rate grows with it.
    network
        A named network.
    seed
        The random seed.
    device
        auto, cpu, mps, cuda or cuda:N.
    set
        Any setting by path; may be given several times.
    out
        The picture, .png or .svg; without it, find-lr.png in the run's folder, or in the working folder.
    json
        The rates, losses and suggestions as JSON.
    """
    from residual.analysis.style import is_ours, picture_format
    from residual.cli.words import console
    from residual.errors import UsageError, log
    from residual.evaluation.destination import mind_places
    from residual.runs.folder import RUN
    from residual.training.find_rate import find_rate

    if out is not None:  # found out before the test is made
        picture_format(Path(out))
        images = Path(os.path.expanduser(data or what or os.devnull))
        named = Path(os.path.expanduser(out)) if (images / RUN).exists() else beside(images, out)
        mind_places([named], "--out", is_ours)
    changes = asked(
        set,
        follow_links=follow_links,
        **{"from": from_},
        data=data,
        batch_size=batch_size,
        network=network,
        seed=seed,
        device=device,
    )
    screen = console()
    with screen.status("range test ...") if screen.is_terminal and not json else nullcontext() as status:

        def stepped(step: int, loss: float) -> None:
            if status is not None:
                status.update(f"range test: step {step} of {steps}, loss {loss:.3f}")

        found = find_rate(what, set=changes, start=start, stop=stop, steps=steps, shape=shape, stepped=stepped)
    test = found.test
    path = Path(os.path.expanduser(out)) if out else (found.run.path if found.run else Path()) / "find-lr.png"
    rates = {suggestion.name: suggestion.rate for suggestion in test.suggestions}
    title = f"{found.recipe.name}, {found.network}, batch {found.recipe.batch_size}, from step {found.step:,}"
    try:
        from residual.analysis.range_figure import draw_range

        if out is None and found.run is None:  # the working folder, in which anything may stand
            mind_places([path], "--out", is_ours)
        draw_range(test.rates, test.losses, test.smoothed, rates, title, path, shape == "linear")
        drawn = True
    except (ImportError, UsageError) as error:
        log.warning("the picture was not drawn: %s", error)
        drawn = False
    if json:
        print(json_.dumps(found.as_dict() | {"picture": str(path) if drawn else None}))
        return 0
    print(printable(f"test     {title}: {len(test.losses)} steps, {test.ended}"))
    print(f"verdict  {test.verdict}")
    for suggestion in test.suggestions:
        print(f"rate     {suggestion.rate:<9.2g} {suggestion.name}: {suggestion.meaning}")
    if drawn:
        print(printable(f"picture  {path}"))
    return 0

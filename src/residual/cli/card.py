"""`residual card`."""

from __future__ import annotations

import os
from pathlib import Path


def card(run: str = "last", /, *, out: str | None = None, license: str | None = None) -> int:
    """Write the model card of a run, README.md, with its measured figures and a head that the Hugging Face hub reads.

    Parameters
    ----------
    run
        A run or a model folder; without it, the last run.
    out
        The file; without it, README.md in the run's folder.
    license
        The licence under which you publish the weights, by its name on the hub: mit, apache-2.0, cc-by-4.0 ...
    """
    from residual.cli.text import printable
    from residual.environment import check_versions
    from residual.errors import ModelError, UsageError

    check_versions()
    from residual.evaluation.classifier import DESCRIPTION
    from residual.evaluation.use import read_classifier
    from residual.export.card import MARK
    from residual.export.card import card as text_of
    from residual.files import replace_file
    from residual.runs.folder import find_run
    from residual.sealed import mind_sealed

    alone = os.path.exists(os.path.join(os.path.expanduser(run), DESCRIPTION))
    if alone:
        if out is None:
            raise UsageError(
                "a model folder is sealed and takes no further file", run, "name the card's file with --out"
            )
        result, name, path = None, Path(os.path.expanduser(run)).resolve().name, Path(os.path.expanduser(out))
    else:
        folder = find_run(run)
        result, name = folder.result(), folder.path.resolve().name
        if result is None:
            raise ModelError("this run is not finished and has no figures", folder.path, "continue it with --resume")
        path = folder.path / "README.md" if out is None else Path(os.path.expanduser(out))
    mind_sealed(path, "--out")
    classifier = read_classifier(run)
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise UsageError("another file stands there", path, "name another --out")
    try:
        text = text_of(classifier, name, result, license)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError("result.json is damaged", run, "restore it from a copy") from None
    replace_file(path, text.encode())
    print(printable(f"card     {path}"))
    if license is None:
        print("note     it names no licence, without which others may not use the weights: --license mit, or another")
    return 0

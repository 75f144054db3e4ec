"""Which files are gone or new since a run began, by what its split.json lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from residual.data.layout import some
from residual.data.source import Dataset, FileSource, everything, names


def changed(stored: Mapping[str, Any], dataset: Dataset, limited: bool = False) -> str:
    """In words that follow on "is not the one"; nothing of data that are no files.

    Args:
        stored: what split.json holds.
        limited: whether the run did not list all that was there.
    """
    listed = stored.get("files")
    if not isinstance(dataset.train, FileSource) or not isinstance(listed, dict):
        return ""
    former = {name for part in listed.values() for name in part} | set(stored.get("left_out", {}))
    sources = [dataset.train, dataset.test, *([] if dataset.validation is None else [dataset.validation])]
    now = {name for source in sources for name in names(source, everything(source))} | set(dataset.left_out)
    gone, new = sorted(former - now), [] if limited else sorted(now - former)
    words = [f"{some(found)} {word}" for found, word in ((gone, "missing"), (new, "new")) if found]
    return f": {', and '.join(words)}" if words else ": the content of files has changed"

"""Where every setting of a run came from, told from `run.json` alone: its values, its command, its reasons.

A setting was given by a flag or `--set`, or stands in the recipe, or is a default, or was chosen by the
program on the machine; of the last the reason is kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from residual.files import Facts
from residual.homes import without_home
from residual.runs.summary import flat

FLAGS = {
    "data.path": "--data",
    "start.weights": "--from",
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "network.name": "--network",
    "seed": "--seed",
    "compute.device": "--device",
    "compute.deterministic": "--deterministic",
    "data.validation": "--protocol",
    "data.follow_links": "--follow-links",
    "evaluation.watch_test": "--watch-test",
}
LEFT_OUT = ("format", "name", "source", "departures")


@dataclass(frozen=True)
class Setting:
    """A setting by its path, with its value in the run and where that came from."""

    path: str
    value: Any
    origin: str
    given: bool
    """Whether whoever started the run changed it from the recipe."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def settings(facts: Facts, stated: Mapping[str, Any] | None = None) -> list[Setting]:
    """Every setting of a run with its origin.

    Args:
        stated: the settings that the named recipe states itself, by path; what it does not state is a
            default. Without it, all that was not changed is put down to the recipe.
    """
    words = _words(facts["command"])
    file = _recipe_file(words)
    recipe = f"recipe file {file}" if file else f"recipe {facts['recipe']['name']}"
    chosen, settled, reasons = (facts.get(part, {}) for part in ("chosen", "settled", "reasons"))
    found = []
    for path, value in flat(facts["recipe"]).items():
        if path in LEFT_OUT:
            continue
        group, _, name = path.partition(".")
        if path in facts["changed"] and path in reasons and path not in settled:
            origin = f"chosen: {reasons[path]}"
        elif path in facts["changed"]:
            origin = _given(path, words)
        else:
            origin = recipe if stated is None or file or path in flat(dict(stated)) else "default"
        if path in settled:
            value, origin = settled[path], f"chosen: {reasons.get(path, 'from the images')}"
        elif group == "compute" and name in reasons and reasons[name] != "asked for":
            value, origin = chosen[name], f"chosen: {reasons[name]}"
        elif path == "steps" and value is None and "steps" in chosen:
            value, origin = chosen["steps"], "follows from epochs, images and batch size"
        elif group == "network" and value is None and facts["network"].get(name) is not None:
            value, origin = facts["network"][name], f"network {facts['network']['name']}"
        value = without_home(value) if isinstance(value, str) else value
        found.append(Setting(path, value, origin, path in facts["changed"]))
    return found


def _words(command: str) -> list[str]:
    """The words of a command line of ours; none of another program's."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark is open
        return []
    return words[1:] if words[:1] == ["residual"] else []


def _recipe_file(words: list[str]) -> str | None:
    """The name of the recipe file on the command line, without its folder."""
    files = [word for word in words if word.endswith(".toml") and not word.startswith("-")]
    return PurePath(files[0]).name if files else None


def _given(path: str, words: list[str]) -> str:
    """The flag that gave a setting, as it was typed."""
    for word, following in pairwise([*words, ""]):
        text = following if word == "--set" else word.removeprefix("--set=") if word.startswith("--set=") else ""
        if text.partition("=")[0].strip() == path:
            return "--set"
    flag = FLAGS.get(path)
    if flag is not None and any(word == flag or word.startswith(f"{flag}=") for word in words):
        return flag
    return "set when it was started"

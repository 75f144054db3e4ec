"""Evidence: the figures of one study as a file, with all that they must be quoted beside, and when one is refused.

A file holds `measured` (figures by name, judged by conditions), `series` (the points of its figures) and their
provenance: command, commit, recipes with their SHA-256, seeds, device, versions, checksums of the data, seconds.
Commit, versions and machine are those of the trainings (`of`), in files of earlier releases of the moment of writing.
`measured` is not sealed: whoever changes it by hand changes verdicts, and finds the command that would have made it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, get_args

from residual.data.datasets import FAMILIES
from residual.environment import commit, machine, versions
from residual.errors import ResidualError, UsageError
from residual.files import Damaged, Facts, canonical, digest, read_regular, readable, replace_file
from residual.training.recipe import Recipe, override
from residual.training.recipes import RECIPES
from residual.version import VERSION

Budget = Literal["smoke", "cpu", "gpu"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)
FORMAT, KIND, ENDING = 1, "evidence", ".evidence.json"
_LIMIT = 1 << 26
_FREE: Final = ("compute", "checkpoint", "seed", "source")
"""Of a recipe: what changes no figure at the last step, or is told beside it."""
_PLACES: Final = ("path", "threads")
_WATCHING: Final = ("every_epochs", "test", "watch_test", "batch_size")


class Refused(ResidualError):
    """A result file that is no evidence for what it is named after."""

    exit_code = 3


@dataclass(frozen=True)
class Definition:
    """What a study is, so that figures of another study are not taken for its own: its name, the recipe it changes,
    the data set it needs, and in words what is measured. Another definition has another hash."""

    study: str
    measures: str
    recipe: str = ""
    dataset: str = ""

    @property
    def sha256(self) -> str:
        return digest(canonical(asdict(self)))


@dataclass(frozen=True)
class RecipeFacts:
    """The recipe of one arm of a study: a named one with changes, and the hash of what came out."""

    name: str
    changed: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True)
class Evidence:
    """The figures of a study and how they came about; `source` is the file, or `computed now`."""

    study: str
    definition: str
    budget: Budget
    command: str
    measured: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, RecipeFacts] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    seconds: float = 0.0
    date: str = ""
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    of: str = "the writing"
    """What commit, versions and machine are those of: the writing of the file, the trainings, or the measuring."""
    source: str = "computed now"

    @property
    def version_note(self) -> str:
        """What to say where another release of this package made it."""
        made = self.versions.get("residual")
        return "" if made in (None, VERSION) else f"made by residual {made}, read by {VERSION}"

    def as_dict(self) -> Facts:
        head: Facts = {"format": FORMAT, "kind": KIND}
        return head | {name: value for name, value in asdict(self).items() if name != "source"}


def recipe_identity(recipe: Recipe) -> str:
    """The hash of what a recipe computes: not where the data lie, on what it runs, nor its seed.

    Values that are the defaults are left out, so that a release which knows more settings finds the same hash.
    """
    table = recipe.model_dump(mode="json", exclude_defaults=True, exclude=set(_FREE))
    table["data"] = {name: value for name, value in table.get("data", {}).items() if name not in _PLACES}
    table["evaluation"] = {k: value for k, value in table.get("evaluation", {}).items() if k not in _WATCHING}
    return digest(canonical({**table, "schedule kind": recipe.schedule.kind}))


def recipe_facts(name: str, changed: Mapping[str, Any]) -> RecipeFacts:
    """The facts of a named recipe with changes.

    Raises:
        UsageError: there is no such recipe, or it takes no such change.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe is named {name[:80]!r}", "recipes", "only named recipes are evidence")
    return RecipeFacts(name, dict(changed), recipe_identity(override(RECIPES[name], changed.items())))


def made(definition: Definition, budget: Budget, command: str, measured: Mapping[str, Any], **more: Any) -> Evidence:
    """New evidence of this day; commit, versions and machine are those of this process where no others are given."""
    here = {"commit": commit(), "versions": versions(), "machine": machine()}
    return Evidence(
        study=definition.study,
        definition=definition.sha256,
        budget=budget,
        command=command,
        measured=measured,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        **(here | more),
    )


def write(evidence: Evidence, path: Path) -> None:
    replace_file(path, readable(evidence.as_dict()))


def place_of(evidence: Evidence, folder: Path) -> Path:
    """Where to write a result file: in the place of one that it covers, else beside those of other seeds or settings.

    A file is covered by one of the same study, settings and data that has its arms, by the same recipes, and its seeds.
    """
    new = json.loads(readable(evidence.as_dict()))
    paths = (folder / f"{evidence.study}{f'-{number}' if number > 1 else ''}{ENDING}" for number in count(1))
    return next(path for path in paths if not os.path.lexists(path) or _covers(new, path))


def _covers(new: Facts, path: Path) -> bool:
    try:
        old = json.loads(read_regular(path, _LIMIT))
        same = all(old[name] == new[name] for name in ("study", "definition", "settings", "data"))
        arms = {arm: facts["sha256"] for arm, facts in new["recipes"].items()}
        known = all(arms.get(arm) == facts["sha256"] for arm, facts in old["recipes"].items())
        return bool(same and known and {*old["seeds"]} <= {*new["seeds"]})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Damaged, OSError):
        return False


def read(path: Path | Traversable, definitions: Mapping[str, Definition]) -> Evidence:
    """The evidence in a file.

    Raises:
        Refused: it is damaged, of an unknown study or another definition of it, of recipes other than those of this
            release, or measured on data that are not the study's.
    """
    try:
        data = read_regular(path, _LIMIT) if isinstance(path, Path) else path.read_bytes()
        value = json.loads(data, parse_constant=_not_finite)
    except (ValueError, RecursionError, Damaged, OSError) as error:
        raise Refused(f"no result file can be read: {type(error).__name__}", path, "restore it") from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise Refused("this is no evidence", path, "name a result file of `residual study`")
    if value.get("format") != FORMAT:
        raise Refused(f"a result file of format {value.get('format')!r:.20}", path, "install the release that wrote it")
    fields = {name: found for name, found in value.items() if name not in ("format", "kind")}
    try:
        recipes = {arm: RecipeFacts(**facts) for arm, facts in fields.pop("recipes").items()}
        seeds, caveats = tuple(fields.pop("seeds")), tuple(fields.pop("caveats"))
        found = Evidence(**fields, seeds=seeds, caveats=caveats, recipes=recipes, source=path.name)
        _examine(found)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise Refused(f"its fields are not those of a result file: {error!r:.120}", path, "restore it") from None
    _check(found, path, definitions)
    return found


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is no figure")


def _examine(found: Evidence) -> None:
    """Raise ValueError where a field has not the type that verdicts and pages take it for."""
    tables = (found.measured, found.settings, found.data, found.versions, found.series, found.device, found.machine)
    if not all(isinstance(table, Mapping) for table in tables):
        raise ValueError("figures that are no table")
    if not all(isinstance(text, str) for text in (found.study, found.budget, found.command, found.date)):
        raise ValueError("words that are no text")
    if not all(isinstance(text, str) for text in found.caveats):
        raise ValueError("caveats that are no text")
    if not all(_whole(number) for number in (*found.seeds, found.settings.get("steps", 0))):
        raise ValueError("seeds or steps that are no whole numbers")
    if not _number(found.seconds):
        raise ValueError("seconds that are no number")
    _examine_figures(found.measured, "measured")


def _examine_figures(table: Mapping[str, Any], where: str) -> None:
    for name, value in table.items():
        if name == "test_error" and not (isinstance(value, Mapping) and {"mean", "std", "values"} <= {*value}):
            raise ValueError(f"{where}.{name} is no spread over seeds")
        if isinstance(value, Mapping):
            _examine_figures(value, f"{where}.{name}")
        elif name == "values" and not (isinstance(value, list) and value and all(map(_number, value))):
            raise ValueError(f"{where}.values are no numbers")
        elif name == "std" and value is None:
            continue  # of one seed
        elif name in ("mean", "median", "least", "most", "std") and not _number(value):
            raise ValueError(f"{where}.{name} is no number")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(found: Evidence, path: object, definitions: Mapping[str, Definition]) -> None:
    definition = definitions.get(found.study)
    if definition is None:
        raise Refused(f"no study is named {found.study!r:.40}", path, "install the release that wrote it")
    if found.definition != definition.sha256:
        what = f"the study {found.study} is defined otherwise in this release"
        raise Refused(what, path, f"measure anew: {found.command}")
    if found.budget not in BUDGETS:
        raise Refused(f"no budget is named {found.budget!r:.20}", path, "restore it")
    for arm, facts in found.recipes.items():
        if definition.recipe and facts.name in RECIPES and facts.name != definition.recipe:
            raise Refused(f"{arm} is of the recipe {facts.name}, not {definition.recipe}", path, "measure anew")
        try:
            now = recipe_facts(facts.name, facts.changed)
        except ResidualError as error:
            raise Refused(f"the recipe of {arm} cannot be made: {error.what}", path, "measure anew") from None
        if now.sha256 != facts.sha256:
            raise Refused(f"the recipe hash of {arm} is not that of its settings", path, "measure anew")
    if definition.dataset:
        if found.data.get("name") != definition.dataset:
            what = f"measured on {found.data.get('name')!r:.40}, and the claims speak of {definition.dataset}"
            raise Refused(what, path, "it is no evidence for them")
        official = [dict(form.files) for form in FAMILIES[definition.dataset].forms]
        if found.data.get("checksums") not in official:
            raise Refused(f"the checksums are not those of {definition.dataset}", path, "fetch the data, measure anew")


def gather(
    folders: Sequence[Path], definitions: Mapping[str, Definition], shipped: bool = True
) -> tuple[list[Evidence], dict[str, str]]:
    """All evidence in the package, in folders and in single files; and the refused files of folders, with the reasons.

    Raises:
        UsageError: a folder or file is not there.  Refused: a file that was named itself.
    """
    found: list[Evidence] = []
    refused: dict[str, str] = {}
    for folder in folders:
        if folder.is_file():
            found.append(read(folder, definitions))
        elif not folder.is_dir():
            raise UsageError("no result file and no folder of them", folder, "name one with --evidence")
    for path in _files([folder for folder in folders if folder.is_dir()], shipped):
        try:
            found.append(read(path, definitions))
        except Refused as error:
            refused[path.name] = error.what
    return found, refused


def _files(folders: Sequence[Path], shipped: bool) -> Iterable[Path | Traversable]:
    """The result files of the package and of folders; other JSON files that a folder holds are passed over."""
    if shipped:
        inside = files("residual.studies").joinpath("evidence").iterdir()
        yield from sorted((file for file in inside if file.name.endswith(ENDING)), key=lambda file: file.name)
    for folder in folders:
        yield from sorted(folder.glob(f"*{ENDING}"))

"""Result files as evidence: read back as written, refused where they are something else, and verdicts from them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from residual import environment
from residual.data.datasets import FAMILIES
from residual.errors import UsageError
from residual.files import replace_file
from residual.studies import evidence as module
from residual.studies.claims import Claim
from residual.studies.conditions import parse
from residual.studies.departures import departed, strongest
from residual.studies.evidence import Evidence, Refused, gather, made, place_of, read, recipe_facts, write
from residual.studies.table import DEFINITIONS, WAYS
from residual.studies.verdicts import Way, judge
from residual.version import VERSION

CHECKSUMS = dict(FAMILIES["cifar-10"].forms[0].files)
CHANGED = {"network.name": "plain-20", "steps": 8000, "schedule.drops": [4000, 6000], "data.validation": 0.0}
MEASURED = {
    "plain-20": {"training_error": {"least": 5.0, "most": 6.0}},
    "plain-56": {"training_error": {"least": 8.0, "most": 9.0}},
}
CLAIM = Claim.model_validate(
    {
        "id": "X1",
        "seed": "000",
        "lines": "1",
        "text": "deeper is worse",
        "needs": "cifar-10",
        "study": "degradation",
        "confirmed": "plain-56.training_error.least > plain-20.training_error.most",
    }
)


def sample(**changes) -> Evidence:
    found = made(
        DEFINITIONS["degradation"],
        "cpu",
        "make campaign degradation",
        MEASURED,
        recipes={"plain-20": recipe_facts("cifar10-paper", CHANGED)},
        seeds=(0, 1, 2),
        data={"name": "cifar-10", "checksums": CHECKSUMS},
    )
    return dataclasses.replace(found, **changes)


@pytest.fixture
def stored(tmp_path) -> Path:
    path = tmp_path / "degradation.evidence.json"
    write(sample(), path)
    return path


def change(path: Path, *keys: str, value: object) -> None:
    table = json.loads(path.read_bytes())
    place = table
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    replace_file(path, json.dumps(table).encode())


def test_evidence_is_read_back_as_written_with_its_provenance(stored):
    found = read(stored, DEFINITIONS)
    assert dataclasses.replace(found, source="computed now").as_dict() == sample().as_dict()
    assert found.source == stored.name
    table = json.loads(stored.read_bytes())
    provenance = {"command", "commit", "recipes", "seeds", "device", "versions", "machine", "data", "seconds", "date"}
    assert provenance <= set(table)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("recipes", "plain-20", "sha256"), "0" * 64, "recipe hash of plain-20"),
        (("recipes", "plain-20", "changed", "steps"), 64_000, "recipe hash of plain-20"),
        (("recipes", "plain-20", "name"), "digits", "of the recipe digits"),
        (("recipes", "plain-20", "name"), "nothing", "cannot be made"),
        (("recipes", "plain-20", "changed", "steps"), -1, "cannot be made"),
        (("data", "checksums", "test_batch.bin"), "0" * 64, "checksums are not those of cifar-10"),
        (("data", "name"), "digits", "claims speak of cifar-10"),
        (("definition",), "0" * 64, "defined otherwise"),
        (("study",), "alchemy", "no study is named"),
        (("budget",), "cosmic", "no budget"),
        (("format",), 2, "format 2"),
        (("kind",), "training", "no evidence"),
        (("measured",), 5, "fields are not those"),
        (("recipes",), 5, "fields are not those"),
        (("more",), 5, "fields are not those"),
    ],
)
def test_another_recipe_other_data_or_another_study_is_refused(stored, keys, value, words):
    change(stored, *keys, value=value)
    with pytest.raises(Refused, match=words):
        read(stored, DEFINITIONS)


def test_a_damaged_file_is_refused(stored):
    stored.write_bytes(stored.read_bytes()[:-30])
    with pytest.raises(Refused, match="can be read"):
        read(stored, DEFINITIONS)


def test_another_definition_of_a_study_has_another_hash():
    first = DEFINITIONS["degradation"]
    for field in dataclasses.fields(first):
        assert dataclasses.replace(first, **{field.name: "other"}).sha256 != first.sha256


def test_seed_device_and_place_of_the_data_are_no_part_of_a_recipe():
    same = CHANGED | {"seed": 5, "compute.device": "cpu", "data.path": "/somewhere", "checkpoint.keep": 4}
    assert recipe_facts("cifar10-paper", same).sha256 == recipe_facts("cifar10-paper", CHANGED).sha256
    for path, value in (
        ("steps", 9000),
        ("data.validation", 0.1),
        ("optimiser.weight_decay", 5e-4),
        ("schedule.kind", "cosine"),
    ):
        other = recipe_facts("cifar10-paper", CHANGED | {path: value})
        assert other.sha256 != recipe_facts("cifar10-paper", CHANGED).sha256


def test_a_figure_changed_by_hand_changes_the_verdict(stored):
    def verdict() -> str:
        return judge(CLAIM, gather([stored], DEFINITIONS, shipped=False)[0], WAYS).verdict

    assert verdict() == "confirmed"
    change(stored, "measured", "plain-56", "training_error", "least", value=5.5)
    assert verdict() == "not confirmed"
    change(stored, "measured", "plain-56", value={})
    assert verdict() == "not measured"


def test_verdicts_follow_from_claim_and_figures_alone():
    table = CLAIM.model_dump() | {"confirmed": "plain-20.training_error.most > 7", "right": "r", "source": "s"}
    wrong = Claim.model_validate(table | {"right_if": "plain-20.training_error.most < 7"})
    assert judge(wrong, [sample()], {}).verdict == "wrong in the seed"
    assert judge(Claim.model_validate(table | {"right_if": None}), [sample()], {}).verdict == "not confirmed"
    caveat = CLAIM.model_copy(update={"caveat": "but only on Sundays"})
    assert judge(caveat, [sample()], {}).caveats == ("but only on Sundays",)
    for changes, words in (
        ({"seeds": (0,)}, "one seed"),
        (
            {"seeds": (0, 1)},
            "two seeds: of two equal arms, one lies wholly below the other in this order once in six at most",
        ),
        ({"budget": "smoke"}, "smoke: far shorter"),
        ({"caveats": ("8,000 steps instead of 64,000",)}, "8,000 steps"),
    ):
        found = judge(CLAIM, [sample(**changes)], {})
        assert found.verdict == "confirmed with a caveat"
        assert words in " ".join(found.caveats)
    assert judge(CLAIM, [sample()], {}).verdict == "confirmed"


@pytest.mark.parametrize(
    "condition",
    [
        "plain-56.training_error.least > 0.5",  # an arm against a constant
        "plain-56.training_error.least > 0.5 * plain-56.training_error.most",
        "plain-56.training_error.most < plain-20.training_error.least",  # does not hold
        "plain-56.training_error.mean > plain-20.training_error.mean",
    ],
)
def test_two_seeds_are_held_against_arms_that_lie_apart_alone(condition):
    claim = Claim.model_validate(CLAIM.model_dump() | {"confirmed": condition})
    assert not any("two seeds" in caveat for caveat in judge(claim, [sample(seeds=(0, 1))], {}).caveats)


def test_two_seeds_ask_for_a_caveat_only_where_arms_are_compared_over_them():
    for condition in ("plain-20.training_error.most < 7", "plain-56.layers > plain-20.layers"):
        claim = Claim.model_validate(CLAIM.model_dump() | {"confirmed": condition})
        measured = {arm: figures | {"layers": int(arm[-2:])} for arm, figures in MEASURED.items()}
        assert judge(claim, [sample(seeds=(0, 1), measured=measured)], {}).verdict == "confirmed"


def test_without_evidence_the_way_to_it_is_named():
    found = judge(CLAIM, [], {"degradation": Way("a command", "an hour")})
    assert (found.verdict, found.way) == ("not measured", Way("a command", "an hour"))
    own = CLAIM.model_copy(update={"command": "its own", "cost": "a day"})
    assert judge(own, [], {"degradation": Way("a command", "an hour")}).way == Way("its own", "a day")


def test_the_strongest_evidence_counts_and_what_it_lacks_is_taken_from_the_next():
    weak = sample(budget="smoke", settings={"steps": 90_000}, source="weak")
    strong = sample(budget="gpu", source="strong", seeds=(0,))
    long = sample(settings={"steps": 64_000}, seeds=(0,), source="long")
    assert strongest([sample(settings={"steps": 8000}, source="short"), long], "degradation")[0] is long
    assert [one.source for one in strongest([weak, strong, sample(source="cpu")], "degradation")] == [
        "cpu",
        "strong",
        "weak",
    ], "more seeds count for more, whatever they ran on"
    quick = sample(budget="gpu", settings={"steps": 1000}, source="quick")
    assert strongest([quick, sample(settings={"steps": 8000}, seeds=(0,), source="long")], "degradation")[-1] is quick
    narrow = {"plain-20": recipe_facts("cifar10-paper", {**CHANGED, "network.widths": [8, 16, 32]})}
    wide = sample(seeds=(0,), settings={"steps": 8000}, source="wide")
    assert strongest([sample(recipes=narrow, settings={"steps": 9000}), wide], "degradation")[0] is wide
    lacking = dataclasses.replace(strong, measured={"plain-20": MEASURED["plain-20"]})
    found = judge(CLAIM, [lacking, weak], {})
    assert found.evidence is not None
    assert found.evidence.source == "weak"


def test_another_release_is_shown(stored):
    change(stored, "versions", "residual", value="0.0.1")
    found = read(stored, DEFINITIONS)
    assert found.version_note == f"made by residual 0.0.1, read by {VERSION}"
    assert judge(CLAIM, [found], {}).as_dict()["evidence"]["version_note"] == found.version_note
    assert sample().version_note == ""


def test_in_a_folder_refused_files_are_listed_and_a_named_one_is_an_error(stored):
    change(stored, "definition", value="0" * 64)
    found, refused = gather([stored.parent], DEFINITIONS, shipped=False)
    assert found == []
    assert list(refused) == [stored.name]
    with pytest.raises(Refused):
        gather([stored], DEFINITIONS, shipped=False)
    with pytest.raises(UsageError, match="no result file"):
        gather([stored.parent / "absent"], DEFINITIONS, shipped=False)


def test_every_shipped_file_is_accepted():
    found, refused = gather([], DEFINITIONS)
    assert refused == {}
    others = {one.source for one in found if departed(one)}
    shorter = ("units-narrow", "shortcuts-narrow", "tiny-imagenet")
    assert all(name.startswith(shorter) for name in others), "what a study changes is its own"
    assert all(one.source.endswith(module.ENDING) for one in found)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("settings", "steps"), None),
        (("settings", "steps"), "64k"),
        (("date",), None),
        (("seconds",), "long"),
        (("seeds",), ["a"]),
        (("caveats",), [1]),
        (("measured", "plain-20", "test_error"), 7.7),
        (("measured", "plain-20", "test_error"), {"mean": 7.7}),
        (("measured", "plain-20", "training_error", "least"), "5"),
        (("measured", "plain-20", "training_error", "values"), []),
        (("measured", "plain-20", "training_error", "std"), ""),
        (("measured", "plain-20", "training_error", "most"), float("nan")),
    ],
)
def test_a_file_with_a_field_of_another_type_is_refused_by_name_and_hides_no_other(stored, tmp_path, keys, value):
    broken = tmp_path / "a-broken.evidence.json"
    broken.write_bytes(stored.read_bytes())
    change(broken, *keys, value=value)
    with pytest.raises(Refused):
        read(broken, DEFINITIONS)
    found, refused = gather([tmp_path], DEFINITIONS, shipped=False)
    assert [one.source for one in found] == [stored.name]
    assert list(refused) == [broken.name]


def full(**changed) -> Evidence:
    measured = {"at_64000": {"resnet-20": {"test_error": {"mean": 8.0, "std": None, "values": [8.0]}}}}
    recipes = {"resnet-20": recipe_facts("cifar10-paper", {"network.name": "resnet-20", **changed})}
    return sample(measured=measured, recipes=recipes, settings={"steps": 64_000}, source="full")


def test_figures_of_another_recipe_are_not_the_papers():
    claim = Claim.model_validate(CLAIM.model_dump() | {"confirmed": "at_64000.resnet-20.test_error.mean < 9"})
    assert judge(claim, [full()], {}).verdict == "confirmed"
    assert (
        judge(claim, [full(**{"evaluation.every_epochs": 10, "schedule.drops": [32000, 48000]})], {}).verdict
        == "confirmed"
    )
    parts = {"network.widths": [8, 16, 32], "network.norm_momentum": 0.01}
    for path, value in {"optimiser.nesterov": True, "batch_size": 512, "data.limit": 10_000, **parts}.items():
        other = judge(claim, [full(**{path: value})], {})
        assert (other.verdict, other.why) == ("not measured", "no figure at_64000.resnet-20.test_error.mean in full")
    changed = sample(recipes={"plain-20": recipe_facts("cifar10-paper", {**CHANGED, "optimiser.nesterov": True})})
    found = judge(CLAIM, [changed], {})
    assert "the recipe cifar10-paper was changed: optimiser.nesterov=True" in found.caveats


def test_a_result_file_takes_the_place_of_one_that_it_covers_and_of_no_other(tmp_path):
    first, second = tmp_path / "degradation.evidence.json", tmp_path / "degradation-2.evidence.json"
    assert place_of(sample(), tmp_path) == first
    write(sample(seeds=(0,)), first)
    assert place_of(sample(), tmp_path) == first, "seeds 0, 1, 2 cover seed 0"
    assert place_of(sample(seeds=(1,)), tmp_path) == second
    assert place_of(sample(settings={"depth": 8}), tmp_path) == second
    assert place_of(sample(data={"name": "folder", "checksums": {}}), tmp_path) == second
    write(sample(seeds=(1,)), second)
    assert place_of(sample(seeds=(1, 2)), tmp_path) == second
    assert place_of(sample(recipes={}), tmp_path).name == "degradation-3.evidence.json"
    first.write_text("mine")
    assert place_of(sample(seeds=(0,)), tmp_path).name == "degradation-3.evidence.json"


def test_words_of_some_figures_are_said_where_they_are_so_and_shown_ones_decide_nothing():
    claim = CLAIM.model_copy(
        update={
            "also": "the residual one is behind, too",
            "also_if": parse("resnet-56.training_error.mean > resnet-20.training_error.mean"),
            "shown": "plain-20.training_error.least plain-20.absent",
        }
    )
    behind = {"resnet-20": {"training_error": {"mean": 4.0}}, "resnet-56": {"training_error": {"mean": 7.0}}}
    ahead = {"resnet-20": {"training_error": {"mean": 4.0}}, "resnet-56": {"training_error": {"mean": 3.0}}}
    found = judge(claim, [sample(measured={**MEASURED, **behind})], {})
    assert (found.verdict, found.caveats) == ("confirmed with a caveat", ("the residual one is behind, too",))
    assert found.figures["resnet-56.training_error.mean"] == 7.0
    assert claim.confirmed is not None
    for measured in (MEASURED, {**MEASURED, **ahead}):
        found = judge(claim, [sample(measured=measured)], {})
        assert (found.verdict, found.caveats) == ("confirmed", ())
        assert [*found.figures] == [*claim.confirmed.paths(), "plain-20.training_error.least"]


def test_the_commit_is_that_of_the_checkout_or_none(monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", environment.commit() or "0" * 12)
    monkeypatch.setenv("PATH", "")
    assert environment.commit.__wrapped__() is None

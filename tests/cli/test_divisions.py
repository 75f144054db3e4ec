"""Which photographs a run holds out, and that it goes on with those."""

from __future__ import annotations

import json
from pathlib import Path

import residual
from residual.data.source import everything, names
from residual.data.splits import FAIR, TOGETHER
from residual.training.opening import run_data, stored_recipe
from residual.training.signals import Signals
from tests.cli.test_photographs import PLAIN, SMALL
from tests.data.photographs import divided, photographs


def test_a_share_for_validation_beside_validation_images_is_told(say, here):
    divided(here / "parts", ["train", "val"])
    command = ("train", "parts/", "--set", "steps=1", *PLAIN)
    said = say(*command, "--set", "data.validation=0.3", "--out", "run")
    assert "data.validation = 0.3 holds nothing out: these data have 15 validation images of their own" in said.err
    assert "holds nothing out" not in say(*command, "--out", "other").err


def patients(here: Path) -> dict[str, str]:
    """A table of two classes: three patients of ten images each, and thirty of one; the patient of each path."""
    photographs(here, ["cat", "dog"], 30)
    paths = [f"{kind}/{n:03}.{('jpg', 'png')[n % 2]}" for kind in ("cat", "dog") for n in range(30)]
    found = {path: f"p{int(path[4:7]) // 5}" if int(path[4:7]) < 15 else path for path in paths}
    lines = [f"{path},{path[:3]},{patient}" for path, patient in found.items()]
    (here / "t.csv").write_text("\n".join(["path,label,patient", *lines]))
    return found


def test_a_run_of_an_earlier_release_keeps_its_division(here):
    """Those held the largest patients; a run that began so goes on, and is judged, with the same images."""
    patient = patients(here)
    settings = SMALL | {"steps": 2, "batch_size": 8, "data.group": "patient", "data.validation": 0.2, "data.test": 0.2}
    run = residual.train("t.csv", set=settings, out="run")
    facts = json.loads((here / "run" / "run.json").read_text())
    assert facts["data"]["division"] == TOGETHER
    groups = {side: len({patient[name] for name in run.split()["files"][side]}) for side in ("training", "validation")}
    assert facts["data"]["groups"] == groups
    recipe = stored_recipe(run, facts)
    data, division = run_data(recipe, facts, Signals())
    fair = names(data.test, everything(data.test))
    assert fair == run.split()["files"]["test"]
    assert division.validation.tolist() == run.split()["validation"]
    del facts["data"]["division"]
    data, division = run_data(recipe, facts, Signals())
    first = names(data.test, everything(data.test))
    large = [sum(patient[name] in ("p0", "p1", "p2") for name in found) for found in (first, fair)]
    assert large == [10, 0]
    held = [patient[name] for name in names(data.held, division.validation)]
    assert max(held.count(one) for one in held) == 10


def test_a_model_of_an_earlier_release_is_judged_on_its_own_test_images(here):
    patient = patients(here)
    settings = SMALL | {"steps": 2, "batch_size": 8, "data.group": "patient", "data.test": 0.2}
    residual.train("t.csv", set=settings, out="run")
    large = []
    for division in (FAIR, None):
        classifier = residual.load(here / "run" / "model")
        assert classifier.data.pop("division") == TOGETHER
        if division is not None:
            classifier.data["division"] = division
        judged = residual.evaluate(classifier).sheet.images
        large.append(sum(patient[name] in ("p0", "p1", "p2") for name in judged))
    assert large == [0, 10]


def test_a_search_tells_a_concern_once_and_a_training_always(say, here):
    """Nine images of a class are few, in every individual of the search."""
    photographs(here / "photos", ["cat", "dog"], 9)
    small = [word for path, value in SMALL.items() for word in ("--set", f"{path}={value}")]
    more = ("--set", "steps=1", "--set", "batch_size=4", "--log", "plain")
    found = say("tune", "photos/", *small, *more, "--population", 2, "--generations", 0)
    assert found.code == 0
    few = "2 of 2 classes have fewer than 10 training images"
    assert found.err.count(few) == 1
    for out in ("one", "two"):
        assert say("train", "photos/", *small, *more, "--out", out).err.count(few) == 1

"""The model card: its head is YAML with the measured figures, and no name can break out of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from residual.data.preprocessing import Preprocessing
from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from residual.export.card import MARK, card
from residual.models import NetworkSettings, build, resolve

RESULT: dict[str, Any] = {
    "data": {"name": "cifar-10", "test": 10_000},
    "final": {"test": {"images": 10_000, "top1": 0.9125, "top3": 0.98, "top5": 0.995, "loss": 0.3, "extra": 1}},
    "protocol": {"training": "final", "view": "single", "selection": "none", "watched_test": False},
    "device": {"device": "cpu"},
    "machine": {"processor": "A processor"},
    "recipe": "cifar10",
    "seed": 3,
    "steps": 64_000,
    "images_seen": 8_192_000,
    "seconds": 1234.5,
    "date": "2026-01-02",
    "versions": {"torch": "2.13.0"},
}


def classifier(*names: str) -> Classifier:
    spec = resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), len(names))
    sight = Preprocessing((32, 32), 3, "mean-std", torch.zeros(3, 1, 1), torch.ones(3, 1, 1), 0.875)
    return Classifier(build(spec), sight, names, {"step": 1})


def head(text: str) -> Any:
    yaml: Any = pytest.importorskip("yaml", reason="the head is read with PyYAML")
    before, top, _ = text.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(top)


def test_the_head_holds_the_figures():
    text = card(classifier(*"abcdefghij"), "my run", RESULT)
    found = head(text)
    assert found["library_name"] == "residual"
    assert found["pipeline_tag"] == "image-classification"
    assert found["datasets"] == ["cifar10"]
    (entry,) = found["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "my run"
    assert result["dataset"] == {"name": "CIFAR-10", "type": "cifar10", "split": "test"}
    assert {m["name"]: m["value"] for m in result["metrics"]} == {"top-1": 0.9125, "top-3": 0.98, "top-5": 0.995}
    # Wilson's interval of 9,125 of 10,000 by hand: z = 1.95996, middle .912342, half .005541.
    assert "| test | 10,000 | 91.25 % | 90.68 to 91.79 % | 98.00 % | 99.50 % | 0.3000 |" in text
    assert "the test images were not looked at during training" in text
    assert "the centre keeps 0.875" in text
    assert MARK in text


@pytest.mark.parametrize(
    ("classes", "tops"), [(3, ["top-1"]), (4, ["top-1", "top-3"]), (6, ["top-1", "top-3", "top-5"])]
)
def test_shares_that_are_always_the_whole_are_left_out(classes, tops):
    text = card(classifier(*"abcdef"[:classes]), "run", RESULT)
    metrics = head(text)["model-index"][0]["results"][0]["metrics"]
    assert [m["name"] for m in metrics] == tops
    (row,) = [line for line in text.splitlines() if line.startswith("| split")]
    first, interval, *others = [cell.strip() for cell in row.split("|")][3:-2]
    assert ([first, *others], interval) == (tops, "95 % interval")
    rule, figures = text.splitlines()[text.splitlines().index(row) + 1 :][:2]
    assert rule.count("|") == row.count("|") == figures.count("|")


def test_where_there_are_no_test_images_nothing_is_said_of_looking_at_them():
    final = {"validation": RESULT["final"]["test"]}
    text = card(classifier("cat", "dog"), "run", {**RESULT, "data": {"name": "folder", "test": 0}, "final": final})
    assert "- there are no test images" in text
    assert "looked at" not in text


def test_photographs_are_called_as_their_folder():
    found = classifier("cat", "dog")
    found.provenance["data"] = {"name": "folder", "origin": "/home/me/my pets"}
    text = card(found, "run", {**RESULT, "data": {"name": "folder", "test": 0}})
    assert head(text)["model-index"][0]["results"][0]["dataset"]["name"] == "my pets"
    assert ", on my pets; " in text
    assert "/home" not in text


def test_names_break_out_of_nothing():
    evil = 'x"\n---\nlicense: mit\n<script>|'
    text = card(classifier(evil, "dog"), evil, {**RESULT, "data": {"name": evil}, "recipe": evil})
    found = head(text)
    assert "license" not in found
    assert found["model-index"][0]["name"] == evil
    assert "<script>" not in text.split("---\n", 2)[2]
    assert text.count("\n---\n") == 1


def test_without_figures_it_says_so():
    made = classifier("cat", "dog")
    made.provenance["imported"] = {"file": "w.pth", "sha256": "0" * 64, "library": "torchvision"}
    text = card(made, "brought", None)
    assert "model-index" not in head(text)
    assert "nothing of it was measured" in text
    assert "w.pth" in text
    assert "%" not in text


def test_a_model_trained_here_names_its_run_and_where_its_figures_are():
    made = classifier("cat", "dog")
    made.provenance |= {"run": "b_1", "step": 1200, "recipe": "digits", "seed": 7, "data": {"name": "cifar-10"}}
    text = card(made, "model", None)
    assert "not trained here" not in text
    for words in ("`residual card RUN`", "run b\\_1, weights of step 1,200", "recipe digits, seed 7", "on CIFAR-10"):
        assert words in text
    assert "None are kept with a model alone" in card(classifier("cat", "dog"), "model", None)


def test_a_licence_is_what_its_owner_says_and_nothing_else():
    assert "license" not in head(card(classifier("cat", "dog"), "run", RESULT))
    assert head(card(classifier("cat", "dog"), "run", RESULT, "cc-by-4.0"))["license"] == "cc-by-4.0"
    assert head(card(classifier("cat", "dog"), "run", RESULT, "MIT"))["license"] == "mit"
    for wrong in ("", "M I T", "mit\nbase_model: x", "a" * 101, "-"):
        with pytest.raises(UsageError, match="no name of a licence"):
            card(classifier("cat", "dog"), "run", RESULT, wrong)


def test_changed_settings_stand_beside_the_recipe():
    changed = {"epochs": 3.0, "data.path": "/home/jane/pets", "network.name": "resnet-8", "compute.threads": 1}
    text = card(classifier("cat", "dog"), "run", {**RESULT, "changed": changed})
    assert "- recipe cifar10, epochs=3.0, network.name=resnet-8, 64,000 steps" in text

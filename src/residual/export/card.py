"""The model card of a run: Markdown with a YAML head, as the Hugging Face hub reads it, with measured figures only.

Source of the form: https://huggingface.co/docs/hub/model-cards (`model-index`). JSON is YAML, so every value of the
head is written as JSON, and nothing in a name can break out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.intervals import CONFIDENCE, WILSON, wilson
from residual.files import Facts
from residual.runs.summary import data_name, model_figures

MARK: Final = "<!-- written by `residual card` -->"
_DATASETS: Final = {"cifar-10": ("CIFAR-10", "cifar10"), "cifar-100": ("CIFAR-100", "cifar100")}
_SHARES: Final = {1: "top-1", 3: "top-3", 5: "top-5"}


def card(classifier: Classifier, name: str, result: Facts | None, license: str | None = None) -> str:
    """The text of README.md.

    Args:
        result: the figures of a finished run, as `result.json` has them; None where nothing was measured.
        license: the hub's word for the terms under which the weights are given away; None leaves it out.

    Raises:
        UsageError: the licence is none of the hub's words, of letters, digits, dots and hyphens.
    """
    license = None if license is None else license.lower()
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,99}", license):
        what = f"{license[:60]!r} is no name of a licence as the hub writes it"
        raise UsageError(what, "--license", "as in mit, apache-2.0, cc-by-4.0, cc-by-nc-4.0 or other")
    return "\n".join([*_head(classifier, name, result, license), "", MARK, "", *_body(classifier, name, result)]) + "\n"


def _shares(classes: int) -> dict[str, str]:
    """Names of the top-k shares that say something: among as many answers as there are classes is every class."""
    return {f"top{k}": words for k, words in _SHARES.items() if k == 1 or k < classes}


def _head(classifier: Classifier, name: str, result: Facts | None, license: str | None) -> Iterator[str]:
    yield "---"
    yield 'library_name: "residual"'
    if license is not None:
        yield f"license: {json.dumps(license)}"
    yield 'pipeline_tag: "image-classification"'
    yield f"tags: {json.dumps(['image-classification', 'residual', classifier.spec.name])}"
    if result is not None:
        title, kind = _dataset(classifier, result["data"]["name"])
        if result["data"]["name"] in _DATASETS:
            yield f"datasets: {json.dumps([kind])}"
        yield 'metrics: ["accuracy"]'
        entries = [
            {
                "task": {"type": "image-classification"},
                "dataset": {"name": title, "type": kind, "split": split},
                "metrics": [
                    {"type": "accuracy", "name": words, "value": scores[key]}
                    for key, words in _shares(classifier.spec.classes).items()
                ],
            }
            for split, scores in model_figures(result).items()
        ]
        yield f"model-index: {json.dumps([{'name': name, 'results': entries}])}"
    yield "---"


def _dataset(classifier: Classifier, name: str) -> tuple[str, str]:
    """What people call a data set, of photographs by the name of their folder, and its name on the hub."""
    title = data_name(classifier.data) if name == "folder" else name
    return _DATASETS.get(name, (title, name))


def _body(classifier: Classifier, name: str, result: Facts | None) -> Iterator[str]:
    spec, sight = classifier.spec, classifier.preprocessing
    height, width = sight.image_size
    parameters = sum(parameter.numel() for parameter in classifier.network.parameters())
    yield f"# {_plain(name)}"
    yield ""
    yield (
        f"{spec.name}, shortcut {spec.shortcut}, {parameters:,} parameters. It tells {spec.classes} classes apart in "
        f"images of {height} x {width} pixels and {sight.channels} {'channel' if sight.channels == 1 else 'channels'}."
    )
    yield ""
    if result is None:
        yield from _unmeasured(classifier)
    else:
        yield from _measured(classifier, result)
    yield ""
    yield "## Images"
    yield ""
    cut = "" if sight.crop == 1 else f"; of the resized side the centre keeps {sight.crop:.4g}"
    yield f"Resized: {sight.facts()['resize']}{cut}."
    yield f"Normalised: {sight.normalisation}, with the constants stored beside the weights."
    yield ""
    yield "## Use"
    yield ""
    yield "    residual predict FOLDER image.png"
    yield ""
    yield 'FOLDER is this one, or its folder `model`. From Python, `residual.predict("FOLDER", ["image.png"])`.'
    yield ""
    yield "## Classes"
    yield ""
    names = [_plain(label) for label in classifier.class_names[:20]]
    more = f" and {spec.classes - 20:,} more" if spec.classes > 20 else ""
    yield ", ".join(names) + more + "."


def _measured(classifier: Classifier, result: Facts) -> Iterator[str]:
    protocol, device, machine = result["protocol"], result["device"], result["machine"]
    title, _ = _dataset(classifier, result["data"]["name"])
    yield "## Figures"
    yield ""
    best = result.get("best")
    place = f"with the weights of step {best['step']:,}" if best else "at its last step"
    yield f"Of one run, seed {result['seed']}, {place}, on {_plain(title)}; {protocol['view']} view."
    yield ""
    tops = _shares(classifier.spec.classes)
    first, *others = tops.values()
    columns = ["split", "images", first, f"{CONFIDENCE:.0%} interval".replace("%", " %"), *others, "loss"]
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    for split, scores in model_figures(result).items():
        low, high = wilson(round(scores["top1"] * scores["images"]), scores["images"])
        share, *rest = (f"{100 * scores[key]:.2f} %" for key in tops)
        cells = [split, f"{scores['images']:,}", share, f"{100 * low:.2f} to {100 * high:.2f} %", *rest]
        yield f"| {' | '.join(cells)} | {scores['loss']:.4f} |"
    yield ""
    yield f"The interval ({WILSON}) is that of other images of the kind, not of another training."
    yield ""
    yield f"- training: {_plain(protocol['training'])}; selection: {_plain(protocol['selection'])}"
    watched = "were" if protocol["watched_test"] else "were not"
    there = result["data"].get("test", 1) > 0
    yield f"- the test images {watched} looked at during training" if there else "- there are no test images"
    for part, count in classifier.provenance.get("start", {}).get("seen", {}).items():
        if count:
            yield f"- {count:,} of the {_plain(part)} images have trained the weights that it began from"
    if start := result.get("start"):
        yield f"- began from weights of {_plain(start['network'])}, SHA-256 {_plain(start['sha256'])}"
    recipe = f"{result['recipe']}{_changed(result.get('changed', {}))}"
    yield f"- recipe {_plain(recipe)}, {result['steps']:,} steps, {result['images_seen']:,} images seen"
    yield f"- {_plain(_device(device))}, {_plain(machine['processor'])}, {result['seconds']:,.0f} s, {result['date']}"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield f"- {_plain(versions)}"


def _changed(settings: Facts) -> str:
    """What was changed of the recipe, but for what is of the machine alone, such as where its images lay."""
    own = ("data.path", "start.weights", "compute.", "checkpoint.")
    return "".join(f", {path}={value}" for path, value in settings.items() if not path.startswith(own))


def _device(device: Facts) -> str:
    return str(device.get("name") or device.get("device") or "")


def _unmeasured(classifier: Classifier) -> Iterator[str]:
    yield "## Figures"
    yield ""
    known = classifier.provenance
    origin: dict[str, Any] | None = known.get("imported")
    if known.get("program"):
        yield "None: another program has trained this model, and nothing of it was measured here."
    elif origin is None:
        yield "None are kept with a model alone. `residual card RUN` writes those of its run, where that is finished."
        yield ""
        yield f"- trained by run {_plain(known.get('run', 'unknown'))}, weights of step {known.get('step', 0):,}"
        if recipe := known.get("recipe"):
            yield f"- recipe {_plain(recipe)}, seed {_plain(known.get('seed'))}"
        if data := known.get("data"):
            yield f"- trained on {_plain(_dataset(classifier, str(data.get('name')))[0])}"
    else:
        yield "None: this model was not trained here, and nothing of it was measured."
        yield ""
        yield f"- from {_plain(origin['file'])}, SHA-256 {_plain(origin['sha256'])}"
        yield f"- names of {_plain(origin['library'])}"


def _plain(text: object) -> str:
    """Text in which nothing is Markdown or HTML, on one line."""
    line = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line)

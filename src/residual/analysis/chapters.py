"""The chapters of a page that belong to one run: figures, classes, confusion, mistakes, recipe, environment."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

import numpy
import torch
from PIL import Image
from torch import Tensor

from residual.analysis.elements import (
    Column,
    Html,
    join,
    named,
    number,
    percent,
    plural,
    points,
    scrolling,
    table,
    tag,
    terms,
    visible,
    whole,
)
from residual.analysis.figures import MOST_NAMES, confusion_picture
from residual.analysis.inline import inline_svg
from residual.analysis.reliability import FEW, reliability_picture
from residual.analysis.report import Figures, Judged, RunReport
from residual.evaluation.statistics import Mistake
from residual.files import Facts

LARGEST_PICTURE = 160
"""Pixels on a side; larger photographs are made smaller for the page."""
_FEW_ROWS = 30
Heading = Callable[[str, str], Html]


def _top(figures: Figures, k: int, classes: int) -> str:
    """Top-k; with k classes or fewer every answer is among the first k, which says nothing."""
    return "–" if k >= classes else percent({1: figures.top1, 3: figures.top3, 5: figures.top5}[k])


def figures_table(run: RunReport) -> Html:
    """Loss and top-1/3/5 of each split, and beside the table how each came about."""
    classes = len(run.data["class_names"])
    rows = [(row.split, row) for row in run.figures]
    if run.judged is not None:
        rows.append((f"{run.judged.split}, evaluated for this report", run.judged.figures))
    columns = [Column("images of"), *(Column(name, True) for name in ("images", "loss", "top-1", "top-3", "top-5"))]
    cells = [
        (name, whole(row.images), number(row.loss), *(_top(row, k, classes) for k in (1, 3, 5))) for name, row in rows
    ]
    drawn = table("Share of images whose class is among the first 1, 3 or 5 answers; loss in nats", columns, cells)
    how = [(name, f"step {row.step:,}: {row.protocol}") for name, row in rows]
    if run.protocol:
        how.append(("protocol", _protocol(run.protocol, bool(run.data.get("test", 1)))))
    notes = terms(how)
    return tag("div", drawn, tag("div", tag("p", "How they came about", class_="caption"), notes), class_="two")


def _protocol(facts: Facts, tested: bool) -> str:
    """The protocol of a finished run in words; `tested` where its data have test images."""
    watched = "watched by epoch for the curves" if facts.get("watched_test") else "not looked at before the end"
    test = f"test images {facts.get('test', watched)}" if tested else "there are no test images"
    return (
        f"training {facts.get('training')}; {facts.get('view')} view; weights of the {facts.get('weights')}; "
        f"chosen by figures: {facts.get('selection')}; {test}"
    )


def classes_table(judged: Judged) -> Html:
    """Precision, recall and F1 of each class, worst first, with their means."""
    names = {one.number: one.name for one in judged.classes}
    many = len(names) > MOST_NAMES
    columns = [
        Column("class"),
        *([Column("no.", True)] if many else []),
        *(Column(name, True) for name in ("images", "precision", "recall", "F1")),
        Column("F1, 0 to 100 %", kind="drawn"),
        Column("most often taken for"),
    ]
    rows = []
    for one in judged.classes:
        bar = tag("span", tag("i", style=f"width:{100 * (one.f1 or 0):.1f}%"), class_="bar", aria_hidden="true")
        pair = judged.taken_for.get(one.number)
        taken = join([named(names[pair.predicted], 28), f" ({pair.count:,})"]) if pair else ""
        shares = (percent(one.precision, 1), percent(one.recall, 1), percent(one.f1, 1))
        place = (str(one.number),) if many else ()
        rows.append((named(one.name), *place, whole(one.images), *shares, bar, taken))
    means = judged.means
    shares = (percent(means["precision"], 1), percent(means["recall"], 1), percent(means["f1"], 1))
    foot = ("mean", *([""] if many else []), whole(judged.figures.images), *shares, "", "")
    text = f"Worst first by F1; {judged.split} images, {judged.figures.protocol}"
    made = table(text, columns, rows, foot=foot)
    return Html(made.replace('class="scroll"', 'class="scroll tall"', 1)) if len(rows) > _FEW_ROWS else made


def confusion(judged: Judged, prefix: str) -> Html:
    """The matrix, as a table where its classes are few and as a picture where they are many; the usual confusions."""
    ordered = sorted(judged.classes, key=lambda one: one.number)
    names = [one.name for one in ordered]
    matrix = _matrix(judged, names) if len(names) <= MOST_NAMES else _picture(judged, names, prefix)
    columns = [Column("true class"), Column("taken for"), Column("images", True), Column("of the true class", True)]
    rows = [
        (named(names[c.true]), named(names[c.predicted]), whole(c.count), percent(c.share, 1))
        for c in judged.confusions
    ]
    pairs = (
        table("The most frequent confusions", columns, rows)
        if rows
        else tag("p", "No image was taken for another class.")
    )
    return tag("div", matrix, pairs, class_="two" if len(names) <= MOST_NAMES else "two wide")


def _matrix(judged: Judged, names: list[str]) -> Html:
    counts = judged.confusion.tolist()
    head = join(tag("th", named(name, 18), scope="col") for name in names)
    lines = []
    for t, name in enumerate(names):
        total = max(1, sum(counts[t]))
        cells = []
        for p, count in enumerate(counts[t]):
            shade = f"--a:{0.62 * (count / total) ** 0.5:.2f}" if count else None
            kind = " ".join(word for word, holds in (("right", t == p), ("none", not count)) if holds) or None
            cells.append(tag("td", str(count) if count else "·", class_=kind, style=shade))
        lines.append(tag("tr", tag("th", named(name, 18), scope="row"), *cells))
    corner = tag("td", "true ↓ predicted →", class_="axis")
    caption = "Images by true class (rows) and predicted class (columns); shade is the root of the share of the row"
    body = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", corner, head)),
        tag("tbody", *lines),
        class_="confusion",
    )
    return scrolling(body, "confusion matrix")


def _picture(judged: Judged, names: list[str], prefix: str) -> Html:
    right = percent(judged.figures.top1)
    words = f"Confusion matrix of {len(names)} classes; {right} of the images lie on its diagonal"
    svg = confusion_picture(judged.confusion.numpy(), names, "inline")
    caption = (
        "Rows are true classes, columns predicted ones, both by number (no. in the table of classes): "
        "blue is right, orange wrong; shade is the root of the share of the row."
    )
    return tag("figure", inline_svg(svg, f"{prefix}-confusion", words), tag("figcaption", caption), class_="matrix")


def mistakes(judged: Judged) -> Html:
    """The most wrong images with answer and truth."""
    names = {one.number: one.name for one in judged.classes}
    if not judged.mistakes:
        return tag("p", "No image was answered wrongly.")
    shown = len(judged.mistakes)
    what = f"{plural(judged.wrong, 'mistake', 'mistakes')} in {judged.figures.images:,} {judged.split} images, "
    what += "the most surely wrong first" if shown == judged.wrong else f"of which these {shown} are most surely wrong"
    what += ": those of highest loss."
    items = []
    for place, mistake in enumerate(judged.mistakes):
        truth, answer, title = names[mistake.true], names[mistake.predicted], judged.titles[place]
        alternative = f"{judged.split} image {title}: {visible(truth)}, taken for {visible(answer)}"
        pictures = [_image(judged.images[place], alternative)] if judged.images else [_unseen()]
        if judged.maps:
            pictures.append(_image(judged.maps[place], f"where {visible(answer)} was found in {title}"))
        caption = tag("figcaption", *_words(mistake, truth, answer, title))
        items.append(tag("li", tag("figure", *pictures, caption)))
    return join([tag("p", what), _of_maps(judged.maps), tag("ul", *items, class_="mistakes")])


def _of_maps(maps: Sequence[Tensor]) -> Html:
    words = "The second picture shows where the network found what speaks for its answer (Grad-CAM on the last stage)."
    return tag("p", words, class_="caption") if maps else Html("")


def examples(judged: Judged) -> Html:
    """Of each class the image that was answered rightly and most surely, the worst classes first."""
    names = {one.number: one.name for one in judged.classes}
    items = []
    for place, example in enumerate(judged.examples):
        name, title = names[example.number], judged.example_titles[place]
        pictures = [_image(judged.example_images[place], f"{judged.split} image {title}: {visible(name)}")]
        if judged.example_maps:
            pictures.append(_image(judged.example_maps[place], f"where {visible(name)} was found in {title}"))
        words = [tag("b", named(name, 24)), join([percent(example.probability, 1), tag("br"), named(title, 24)])]
        items.append(tag("li", tag("figure", *pictures, tag("figcaption", *words))))
    shown = len(items)
    which = "each class" if shown == len(names) else f"{shown} of {len(names)} classes, the worst first,"
    what = f"Of {which} the {judged.split} image that was answered rightly and most surely."
    return join([tag("p", what), _of_maps(judged.example_maps), tag("ul", *items, class_="mistakes")])


def calibration(judged: Judged, prefix: str) -> Html:
    """Whether the probabilities mean what they say: the reliability diagram and its one number."""
    found = judged.calibration
    right, bins = percent(judged.figures.top1), len(found.bins)
    error = points(found.error)
    words = f"Reliability diagram: expected calibration error {error}"
    svg = inline_svg(reliability_picture(found, "inline"), f"{prefix}-reliability", words)
    text = (
        f"{right} of the answers are right, and between what they claim and what holds lie {error} on average: "
        f"the expected calibration error over {bins} bins of equal width; {judged.split} images, "
        f"{judged.figures.protocol}. Answers of good calibration stand on the dashed line."
    )
    if any(0 < one.images < FEW for one in found.bins):
        text += f" Bins of fewer than {FEW} answers are hollow: chance alone moves them far."
    return tag("div", tag("figure", svg), tag("p", text), class_="two")


def _unseen() -> Html:
    return tag("div", "not here", class_="unseen")


def _words(mistake: Mistake, truth: str, answer: str, title: str) -> list[Html]:
    return [
        tag("b", "is ", named(truth, 24)),
        join(["taken for ", named(answer, 24), f" ({percent(mistake.probability, 1)})", tag("br")]),
        join([f"truth {percent(mistake.probability_of_truth)}", tag("br")]),
        join([f"loss {number(mistake.loss, 2)}", tag("br"), named(title, 24)]),
    ]


def _image(pixels_CHW: Tensor, alternative: str) -> Html:
    """An image as PNG within the page; small ones are shown pixel by pixel."""
    height, width = pixels_CHW.shape[1:]
    source = "data:image/png;base64," + base64.b64encode(png(pixels_CHW)).decode()
    kind = "pixels" if max(height, width) < LARGEST_PICTURE else None
    return tag("img", src=source, alt=alternative, width=int(width), height=int(height), class_=kind)


def png(pixels_CHW: Tensor) -> bytes:
    pixels = pixels_CHW.to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(numpy.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]))
    picture.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def recipe(run: RunReport) -> Html:
    """Every setting with its origin, group by group; what was changed from the recipe is in bold."""
    groups: dict[str, list[Html]] = {}
    for setting in run.settings:
        group, point, name = setting.path.rpartition(".")
        row = tag(
            "tr",
            tag("th", tag("code", name), scope="row"),
            tag("td", tag("code", _value(setting.value))),
            tag("td", setting.origin),
            class_="given" if setting.given else None,
        )
        groups.setdefault(group if point else "run", []).append(row)
    heads = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("setting", "value", "origin"))))
    tables = [
        tag("table", tag("caption", name), heads, tag("tbody", *rows), class_="settings")
        for name, rows in groups.items()
    ]
    words = f"Every setting, its value, and where that came from; those in bold were changed from recipe {run.recipe}."
    source = [tag("p", run.source)] if run.source else []
    if run.departures:
        source.append(tag("p", f"The recipe departs from its source: {'; '.join(run.departures)}."))
    return join([*source, tag("p", words, class_="caption"), tag("div", *tables, class_="groups")])


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)


def environment(run: RunReport) -> Html:
    compute = run.compute
    facts = [
        ("device", f"{compute.get('device')}, {compute.get('precision')}, {compute.get('layout')}"),
        ("threads", str(compute.get("threads"))),
        *((name, str(value)) for name, value in run.machine.items()),
    ]
    libraries = [(name, str(value)) for name, value in run.versions.items()]
    columns = [Column("at (UTC)"), Column("event"), Column("step", True), Column("device")]
    sittings = [
        (str(s.get("at")).replace("+00:00", ""), str(s.get("event")), whole(s.get("step")), str(s.get("device") or ""))
        for s in run.sittings
    ]
    lists = tag("div", tag("div", terms(facts)), tag("div", terms(libraries)), class_="two")
    return join([lists, table("Sittings of the run", columns, sittings)])


def data(run: RunReport) -> Html:
    facts = run.data
    images = ", ".join(f"{facts.get(part) or 0:,} {part}" for part in ("training", "validation", "test"))
    pairs = [("name", facts["name"]), ("read from", facts["origin"]), ("images", images)]
    pairs.append(("classes", str(len(facts["class_names"]))))
    rows = [(tag("span", visible(name)), tag("code", sha)) for name, sha in facts["checksums"].items()]
    sums = table("SHA-256 of every file that was read", [Column("file"), Column("SHA-256")], rows, kind="checksums")
    return join([terms(pairs), sums])


def chapters(run: RunReport, prefix: str, heading: Heading) -> list[Html]:
    """The chapters of a run in order; `heading(id, words)` makes the head of each."""
    found = [heading("figures", "Figures"), figures_table(run)]
    if run.judged is not None:
        found += [heading("classes", "Classes"), classes_table(run.judged)]
        found += [heading("confusion", "Confusion"), confusion(run.judged, prefix)]
        found += [heading("calibration", "Calibration"), calibration(run.judged, prefix)]
        found += [heading("mistakes", "Most wrong images"), mistakes(run.judged)]
        if run.judged.example_images:
            found += [heading("examples", "Examples"), examples(run.judged)]
    found += [heading("recipe", "Recipe"), recipe(run)]
    found += [heading("environment", "Environment"), environment(run)]
    found += [heading("data", "Data"), data(run)]
    found += [
        heading("repeat", "Repeat it"),
        tag("p", "The command that made this run; give it another --out, since no run is ever written over."),
        tag("pre", tag("code", run.command)),
    ]
    return found

"""A comparison of searches as one HTML file, from its findings: it loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from residual.analysis import comparison_figures as draw
from residual.analysis.elements import Column, Html, join, named, percent, plural, table, tag, terms, whole
from residual.analysis.inline import inline_svg
from residual.analysis.page import POLICY
from residual.analysis.style import MAKER
from residual.runs.summary import data_name
from residual.version import VERSION

Facts = Mapping[str, Any]
MOST_GENES = 12


def comparison_page(found: Facts, command: str) -> bytes:
    """The HTML file, UTF-8; the same findings give the same bytes."""
    title = f"{found['name']}: {', '.join(found['arms'])}"
    css = files("residual.analysis").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("meta", name="generator", content=MAKER),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – Residual comparison"),
        tag("style", Html(css)),
    )
    chapters = {
        "verdicts": ("What the data carry", _verdicts(found)),
        "figures": ("Figures", _figures(found)),
        "curves": ("The winners by epoch", _curves(found)),
        "searches": ("The searches", _searches(found)),
        "genes": ("Genes", _genes(found)),
        **({} if found["proxy"] is None else {"proxy": ("Short against long", _proxy(found))}),
        "how": ("How it was done", _how(found)),
        "repeat": ("Repeat it", tag("pre", tag("code", command))),
    }
    links = (tag("li", tag("a", words, href=f"#{name}")) for name, (words, _) in chapters.items())
    header = tag(
        "header",
        tag("p", "Comparison of searches", class_="eyebrow"),
        tag("h1", named(found["name"], 80)),
        tag("p", _lead(found), class_="lead"),
        tag("nav", tag("ul", *links), aria_label="Contents"),
    )
    parts = [part for name, (words, body) in chapters.items() for part in (tag("h2", words, id=name), body)]
    foot = tag(
        "footer", f"Made by residual {VERSION} from the comparison's runs. This file loads nothing from elsewhere."
    )
    body = tag("body", header, tag("main", _notes(found), _cards(found), *parts), foot)
    return ("<!doctype html>\n" + tag("html", head, body, lang="en") + "\n").encode()


def _lead(found: Facts) -> str:
    recipe, data = found["recipe"], found["data"]
    images = "" if data is None else f" · {data_name(data)}, {data['training']:,} training images"
    epochs, steps = recipe["epochs"], recipe["steps"]
    length = plural(steps, "step", "steps") if epochs is None else "1 epoch" if epochs == 1 else f"{epochs:g} epochs"
    return f"recipe {recipe['name']} · {recipe['network']['name']}{images} · {length} a training"


def _notes(found: Facts) -> Html:
    """What a reader might take for more than it is."""
    notes = []
    if found["searches"] < 3:
        few = "one search" if found["searches"] == 1 else f"{found['searches']} searches"
        notes.append(f"With {few} an arm, no verdict is given: it takes three to tell the chance of the search.")
    counted = "" if found["classes"] is None else ", and counts as chance"
    lost = [f"{row['arm']}, search {row['search']}" for row in found["rows"] if row["genes"] is None]
    if lost:
        notes.append(f"Every training failed in {'; '.join(lost)}{counted}.")
    broken = sum(one["reason"] is not None for row in found["rows"] for one in row["fresh"])
    if broken:
        counted = "" if found["classes"] is None else ", each counted as chance"
        notes.append(f"{plural(broken, 'fresh training', 'fresh trainings')} failed{counted}.")
    if not notes:
        return Html("")
    return tag(
        "div", tag("p", "What to keep in mind"), tag("ul", *(tag("li", n) for n in notes)), class_="notes", role="note"
    )


def _cards(found: Facts) -> Html:
    best = max((row["fitness"] for row in found["rows"] if row["fitness"] is not None), default=None)
    gap = [row["optimism"] for row in found["rows"] if row["optimism"] is not None]
    cards = [
        ("trainings a search", whole(found["trainings"]), f"each of {whole(found['steps'])} steps, as in every arm"),
        ("searches an arm", whole(found["searches"]), f"in each of {plural(len(found['arms']), 'arm', 'arms')}"),
        ("fresh seeds a winner", whole(found["fresh"]), "read once on the test images"),
        ("best validation top-1", percent(best), "of all searches: the luckiest of many"),
    ]
    if gap:
        points = f"{100 * sum(gap) / len(gap):+.2f}\u00a0points"
        cards.append(("too well thought of", points, "winners' fitness less that of fresh seeds, on validation, mean"))
    return tag("dl", *(_card(*card) for card in cards), class_="cards")


def _card(name: str, value: str, how: str) -> Html:
    return tag("div", tag("dt", name), tag("dd", value), tag("dd", how, class_="how"))


def _picture(svg: bytes, prefix: str, title: str, caption: str) -> Html:
    return tag("figure", inline_svg(svg, prefix, title), tag("figcaption", caption))


def _verdicts(found: Facts) -> Html:
    count = len(found["differences"])
    words = (
        f"Test top-1 of the winners, paired by search. {plural(count, 'comparison was', 'comparisons were')} fixed "
        "beforehand; their intervals hold together with 95 % (Bonferroni, Student's t over searches), and none is "
        "narrower than so many predictions of test images allow. An interval that holds zero shows no difference, and "
        "does not show that there is none. All of it is said of this data set, network and budget, and of these test "
        "images alone, which every fresh training judges anew."
    )
    if found["reach"] is not None and found["searches"] < 6:
        words += (
            f" With {found['searches']} searches an interval reaches {found['reach']:.1f} standard deviations of the "
            "differences to each side: only large differences can be shown."
        )
    listed = tag("ul", *(tag("li", one["verdict"]) for one in found["differences"]))
    points = draw.difference_points(found)
    if not points:
        return join([tag("p", words), listed])
    svg = draw.points_picture(points, "difference of test top-1, points", "inline", zero=True)
    caption = "Rings: searches. Dot and line: their mean with its simultaneous interval."
    return join(
        [
            tag("p", words),
            listed,
            tag("div", _picture(svg, "differences", "Paired differences", caption), class_="plots single"),
        ]
    )


def _figures(found: Facts) -> Html:
    columns = [
        Column("arm", kind="word"),
        *(Column(name, True) for name in ("test top-1", "top-3", "top-5", "loss", "searches")),
    ]
    columns += [Column("95 % interval of top-1", True), Column("validation top-1", True)]
    rows = []
    for arm, means in found["means"].items():
        top = means["top1"]
        span = top["interval"] if top is not None else None
        rows.append(
            (
                named(arm),
                *(_spread(means[name], name == "loss") for name in ("top1", "top3", "top5", "loss")),
                whole(len(top["values"]) if top else 0),
                "–" if span is None else f"{100 * span[0]:.2f} to {100 * span[1]:.2f} %",
                _spread(means["validation_top1"], False),
            )
        )
    caption = "Winners trained anew, last step: mean ± deviation over searches, each the mean of its fresh seeds"
    made = [table(caption, columns, rows)]
    pictures = []
    points = draw.arm_points(found)
    if points:
        words = "Rings: searches. Dot and line: their mean with its own 95 % interval."
        svg = draw.points_picture(points, "test top-1, %", "inline")
        pictures.append(_picture(svg, "arms", "Test top-1 by arm", words))
    words = "Thin: searches; thick: their mean. The best of many noisy trainings rises even where nothing is searched."
    pictures.append(_picture(draw.best_picture(found, "inline"), "best", "Best so far", words))
    return join([*made, tag("div", *pictures, class_="plots")])


def _spread(mean: Facts | None, loss: bool) -> str:
    if mean is None:
        return "–"
    scale, digits = (1, 4) if loss else (100, 2)
    spread = "" if mean["std"] is None else f" ± {scale * mean['std']:.{digits}f}"
    return f"{scale * mean['mean']:.{digits}f}{spread}"


def _curves(found: Facts) -> Html:
    if not any(found["curves"].values()):
        return tag("p", "No winner was trained to its end.")
    pictures = [
        _picture(
            draw.curve_picture(found, name, "inline"), f"curve-{n}", words, f"{words} by epoch: mean and one deviation."
        )
        for n, (name, words) in enumerate(draw.SEED_FIGURES.items())
    ]
    words = (
        "Every fresh training of every winner that came to its end. Accuracies and validation loss: held-out images, "
        "plain, single view; training loss: running mean over augmented images under moving weights."
    )
    return join([tag("p", words), tag("div", *pictures, class_="plots")])


def _searches(found: Facts) -> Html:
    paths = list(found["space"]["genes"])
    columns = [Column("arm", kind="word"), Column("search", True), Column("trainings", True), Column("failed", True)]
    columns += [
        Column("duplicates", True),
        Column("fitness", True),
        Column("fresh validation", True),
        Column("test top-1", True),
    ]
    columns += [Column(named(path), True) for path in paths]
    rows = []
    for row in found["rows"]:
        genes = {} if row["genes"] is None else {**found["defaults"], **row["genes"]}
        rows.append(
            (
                named(row["arm"]),
                *(whole(row[name]) for name in ("search", "trainings", "failed", "duplicates")),
                *(percent(row[name]) for name in ("fitness", "validation_top1", "top1")),
                *(_value(genes.get(path)) for path in paths),
            )
        )
    caption = "Each search and its winner; fitness is the validation top-1 of the one training that won"
    return table(caption, columns, rows)


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _genes(found: Facts) -> Html:
    shown = list(found["space"]["genes"])[:MOST_GENES]
    if not any(row["history"] and row["history"][0]["genes"] for row in found["rows"]):
        return tag("p", "No arm searched.")
    pictures = [
        _picture(draw.gene_picture(found, path, "inline"), f"gene-{n}", path, found["space"]["genes"][path])
        for n, path in enumerate(shown)
    ]
    words = (
        "Every individual of every search in the order of its number; the fuller its colour, the fitter within its own "
        "search; the winners ringed."
    )
    return join([tag("p", words), tag("div", *pictures, class_="plots")])


def _proxy(found: Facts) -> Html:
    proxy = found["proxy"]
    words = (
        f"{plural(len(proxy['rows']), 'setting', 'settings')} drawn at random, trained as in the searches and "
        f"{proxy['longer']:g} times as long: {proxy['words']}."
    )
    columns = [Column(named(path), True) for path in found["space"]["genes"]]
    columns += [Column("short", True), Column("long", True)]
    rows = [
        (
            *(_value(row["genes"][path]) for path in found["space"]["genes"]),
            *("failed" if row[tail] is None else percent(row[tail]) for tail in ("short", "long")),
        )
        for row in proxy["rows"]
    ]
    svg = draw.proxy_picture(found, "inline")
    caption = (
        "Validation top-1." if proxy["default"] is None else "Validation top-1; dotted: the default's mean, short."
    )
    return join(
        [
            tag("p", words),
            table("Random settings and their validation top-1", columns, rows),
            tag("div", _picture(svg, "proxy-plot", "Short against long", caption), class_="plots single"),
        ]
    )


def _how(found: Facts) -> Html:
    generations = plural(found["generations"], "generation", "generations")
    facts = [
        ("arms", ", ".join(found["arms"])),
        ("population", f"{found['population']}, {generations} after the first"),
        ("space", found["space"]["name"]),
        *((path, ranged) for path, ranged in found["space"]["genes"].items()),
        ("optimiser", f"{found['recipe']['optimiser']['kind']}, schedule {found['recipe']['schedule']['kind']}"),
        ("fitness", "top-1 on the validation images at the last step; the test images are not read in a search"),
        ("training time", f"{found['training_seconds'] / 60:,.0f} minutes in the searches, less winners and proxies"),
        ("precision", str(found["precision"])),
    ]
    machine = [(name, str(value)) for name, value in found["machine"].items()]
    libraries = [(name, str(value)) for name, value in found["versions"].items()]
    return tag("div", tag("div", terms(facts)), tag("div", terms([*machine, *libraries])), class_="two")

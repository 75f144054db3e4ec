"""The report as one HTML file: it loads nothing, runs no script, and is read in light, dark, narrow and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from residual.analysis.chapters import chapters
from residual.analysis.curves import Against, Curves
from residual.analysis.elements import Column, Html, join, named, number, percent, table, tag, whole
from residual.analysis.figures import PANELS, Panel, panel_picture
from residual.analysis.inline import inline_svg
from residual.analysis.report import Figures, ReportData, RunReport
from residual.analysis.style import MAKER
from residual.runs.summary import data_name, spelt
from residual.version import VERSION

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_PANELS: dict[Panel, str] = {"loss": "Loss, nats", "error": "Top-1 error, %", "rate": "Learning rate and momentum"}


def page(report: ReportData) -> bytes:
    """The HTML file, UTF-8; the same report gives the same bytes."""
    names = [run.name for run in report.runs]
    title = names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"
    body = _alone(report) if len(report.runs) == 1 else _together(report)
    foot = tag("footer", f"Made by residual {VERSION} from the run folders. This file loads nothing from elsewhere.")
    return document(title, [*body, foot])


def document(title: str, body: Sequence[Html]) -> bytes:
    """A whole page, UTF-8: its style inside it, and a policy that lets it load nothing."""
    css = files("residual.analysis").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("meta", name="generator", content=MAKER),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – Residual report"),
        tag("style", Html(css)),
    )
    return ("<!doctype html>\n" + tag("html", head, tag("body", *body), lang="en") + "\n").encode()


def _alone(report: ReportData) -> list[Html]:
    (run,) = report.runs
    anchors: list[tuple[str, str]] = []

    def heading(name: str, words: str) -> Html:
        anchors.append((name, words))
        return tag("h2", words, id=name)

    parts = [heading("curves", "Curves"), _curves(report.runs), *chapters(run, "run", heading)]
    head = [
        tag("p", "Training run", class_="eyebrow"),
        tag("h1", named(run.name, 80), _state(run)),
        tag("p", _what(run), class_="lead"),
        _contents(anchors),
    ]
    return [tag("header", *head), tag("main", _notes(report), _cards(run), *parts)]


def _together(report: ReportData) -> list[Html]:
    anchors = [("overview", "Overview"), ("curves", "Curves"), ("differences", "Differences")]
    parts = [tag("h2", "Overview", id="overview"), _overview(report.runs)]
    parts += [tag("h2", "Curves", id="curves"), _curves(report.runs)]
    parts += [tag("h2", "Settings that differ", id="differences"), _differences(report)]
    for place, run in enumerate(report.runs, 1):
        prefix = f"run-{place}"
        anchors.append((prefix, run.name))

        def heading(name: str, words: str, prefix: str = prefix) -> Html:
            return tag("h3", words, id=f"{prefix}-{name}")

        parts += [tag("h2", named(run.name, 80), _state(run), id=prefix, class_="run")]
        parts += [tag("p", _what(run), class_="lead"), _cards(run), *chapters(run, prefix, heading)]
    head = [
        tag("p", "Comparison", class_="eyebrow"),
        tag("h1", f"{len(report.runs)} training runs"),
        tag("p", _listed(report), class_="lead"),
        _contents(anchors),
    ]
    return [tag("header", *head), tag("main", _notes(report), *parts)]


def _listed(report: ReportData) -> Html:
    words: list[str] = []
    for run in report.runs:
        words += [named(run.name), " · "]
    return join(words[:-1])


def _state(run: RunReport) -> Html:
    if run.finished:
        return tag("span", "finished", class_="state")
    return tag("span", f"not finished: step {run.step:,} of {run.steps:,}", class_="state open")


def _what(run: RunReport) -> str:
    network = f"{run.network['name']}, shortcut {run.network['shortcut']}"
    return f"{network} · {data_name(run.data)} · recipe {run.recipe} · seed {run.seed} · {run.created[:10]}"


def _contents(anchors: Sequence[tuple[str, str]]) -> Html:
    links = (tag("li", tag("a", named(words), href=f"#{name}")) for name, words in anchors)
    return tag("nav", tag("ul", *links), aria_label="Contents")


def _notes(report: ReportData) -> Html:
    """What is missing, and why."""
    alone = len(report.runs) == 1
    notes = [
        tag("li", note) if alone else tag("li", named(run.name), f": {note}")
        for run in report.runs
        for note in run.missing
    ]
    notes += [
        tag("li", named(name), f": left out, since this run is damaged: {reason}.")
        for name, reason in report.damaged.items()
    ]
    if not notes:
        return Html("")
    return tag("div", tag("p", "What this report lacks"), tag("ul", *notes), class_="notes", role="note")


def final(run: RunReport) -> Figures | None:
    """The figures a run is known by: evaluated now, else the last recorded of test or validation."""
    if run.judged is not None:
        return run.judged.figures
    recorded = {row.split: row for row in run.figures}
    return recorded.get("test") or recorded.get("validation")


def _cards(run: RunReport) -> Html:
    figures = final(run)
    cards = []
    if figures is not None:
        cards.append(("top-1", percent(figures.top1), f"{figures.split}, {figures.images:,} images, single view"))
        cards.append(("loss", number(figures.loss), f"nats, {figures.split}"))
    if run.judged is not None:
        cards.append(("mean F1", percent(run.judged.means["f1"]), f"of {len(run.judged.classes)} classes"))
        cards.append(
            ("mistakes", whole(run.judged.wrong), f"in {run.judged.figures.images:,} {run.judged.split} images")
        )
    if run.parameters is not None:
        million = f"{run.multiply_adds / 1e6:,.1f} million" if run.multiply_adds else "–"
        cards.append(("parameters", whole(run.parameters), f"{million} multiply-adds an image"))
    if run.seconds is not None:
        cards.append(("training time", _time(run.seconds), f"{run.compute.get('device')}, evaluations included"))
    return tag(
        "dl", *(tag("div", tag("dt", n), tag("dd", v), tag("dd", w, class_="how")) for n, v, w in cards), class_="cards"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _overview(runs: Sequence[RunReport]) -> Html:
    columns = [Column("run"), Column("state"), Column("step", True), Column("judged on")]
    most = max((len(run.data["class_names"]) for run in runs), default=0)
    told = [k for k in (1, 3, 5) if k == 1 or k < most]  # among as many answers as there are classes is every class
    columns += [Column(name, True) for name in ("images", "loss", *(f"top-{k}" for k in told), "mean F1", "time")]
    rows = []
    for run in runs:
        known, judged = final(run), run.judged
        few = len(run.data["class_names"])
        cells: list[str] = ["–"] * (3 + len(told))
        if known is not None:
            shares = {1: known.top1, 3: known.top3, 5: known.top5}
            tops = (percent(shares[k]) if k == 1 or k < few else "–" for k in told)
            cells = [known.split, whole(known.images), number(known.loss), *tops]
        mean = percent(judged.means["f1"]) if judged is not None else "–"
        time = "–" if run.seconds is None else _time(run.seconds)
        state = "finished" if run.finished else "not finished"
        step = run.step if known is None else known.step
        rows.append((named(run.name), state, whole(step), *cells, mean, time))
    return table("Final figures: plain images, single view, weights of the step named", columns, rows)


def _differences(report: ReportData) -> Html:
    if not report.differences:
        return tag("p", "No setting differs between these runs.")
    columns = [Column("setting"), *(Column(named(run.name)) for run in report.runs)]
    rows = [
        (tag("code", path), *(named("–" if value is None else spelt(value), 60) for value in values))
        for path, values in report.differences.items()
    ]
    return table("Settings whose values are not the same in all runs", columns, rows, kind="differences")


def _curves(runs: Sequence[RunReport]) -> Html:
    """The three panels twice, by epoch and by step; the buttons choose which is seen, and work without a script."""
    lines = {run.name: run.curves for run in runs}
    choice: list[Html] = []
    for against in ("epoch", "step"):
        choice.append(tag("input", type="radio", name="against", id=f"by-{against}", checked=against == "epoch"))
        choice.append(tag("label", f"by {against}", for_=f"by-{against}"))
    drawn = [tag("div", *_panels(lines, against), class_=f"plots by-{against}") for against in ("epoch", "step")]
    return tag("fieldset", tag("legend", "Curves by epoch or by step"), *choice, *drawn, class_="tabs")


def _panels(lines: dict[str, Curves], against: Against) -> list[Html]:
    found = []
    for panel in PANELS:
        svg = inline_svg(
            panel_picture(lines, panel, against, "inline"), f"{panel}-{against}", f"{_PANELS[panel]} by {against}"
        )
        found.append(tag("figure", svg, tag("figcaption", *_last(lines, panel))))
    return found


def _last(lines: dict[str, Curves], panel: Panel) -> list[str]:
    """The last value of each curve of a panel, in words."""
    parts = [f"{part} {panel}" for part in ("training", "validation", "test")]
    wanted = ["learning rate", "momentum"] if panel == "rate" else parts
    unit = {"loss": " nats", "error": "\u00a0%", "rate": ""}[panel]
    words: list[str] = []
    for run, curve in lines.items():
        ends = [
            f"{name.removesuffix('' if panel == 'rate' else f' {panel}')} {curve.series[name].values[-1]:.4g}{unit}"
            for name in wanted
            if name in curve.series
        ]
        text = ", ".join(ends) or "nothing recorded"
        words += [*([" · "] if words else []), *([named(run, 28), ": "] if len(lines) > 1 else ["At the end: "]), text]
    return words

"""`residual find-lr`: an answer for the digits, words where there is none, and a run that stays as it was."""

from __future__ import annotations

import json

import pytest

from campaigns.running import fingerprint
from residual.training.train import train

TINY = ["--network", "resnet-8", "--set", "network.widths=[4,8,8]", "--set", "compute.threads=1"]


def digest_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_suggests_rates_and_draws_them(here, say):
    said = say("find-lr", "digits", *TINY, "--start", "0.001", "--stop", "1000", "--steps", 50)
    assert said.code == 0, said.err
    assert "falls until" in said.out
    lines = [line.split() for line in said.out.splitlines() if line.startswith("rate")]
    assert {words[2].rstrip(":") for words in lines} == {"steepest", "valley", "before-divergence"}
    rates = [float(words[1]) for words in lines]
    assert rates == sorted(rates)
    assert "picture  find-lr.png\n" in said.out
    assert (here / "find-lr.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_left_as_it_was_and_its_weights_are_used(here, say):
    settings = {
        "network.name": "resnet-8",
        "network.widths": [4, 8, 8],
        "steps": 40,
        "compute.threads": 1,
        "compute.precision": "float32",
    }
    run = train("digits", set=settings, out=here / "run")
    before, print_before = digest_of(run.path), fingerprint(run.path)
    arguments = ["find-lr", "run", "--start", "0.0001", "--stop", "1000", "--steps", 12, "--json", "--out", "lr.svg"]
    found = json.loads(say(*arguments).out)
    assert found["step"] == 40
    assert found["losses"][0] < 2.2  # it has learned something
    assert digest_of(run.path) == before
    assert fingerprint(run.path) == print_before
    assert json.loads(say(*arguments).out)["losses"] == found["losses"]
    said = say(*[word for word in arguments if word != "--json"])
    assert "picture  lr.svg" in said.out
    assert "lr.svg of an earlier call will be replaced" in said.err


def test_what_is_no_answer_is_said(here, say):
    said = say("find-lr", "digits", *TINY, "--start", "1e-7", "--stop", "1e-6", "--steps", 12)
    assert said.code == 0
    assert "never falls" in said.out
    assert "rate " not in said.out


def test_a_run_keeps_its_network_and_its_images_and_a_recipe_keeps_its_name(here, say):
    settings = {"network.name": "resnet-8", "network.widths": [4, 8, 8], "steps": 2, "compute.threads": 1}
    train("digits", set=settings, out=here / "runs" / "digits")
    for change in ("network.name=resnet-20", "data.validation=0.3"):
        said = say("find-lr", "runs/digits", "--set", change)
        assert (said.code, "a run keeps its own" in said.err) == (2, True), said.err
    steps = ["--start", "0.001", "--stop", "1", "--steps", 10, "--json"]
    assert json.loads(say("find-lr", "digits", *TINY, *steps).out)["step"] == 0
    assert json.loads(say("find-lr", "runs/digits", *steps).out)["step"] == 2


def test_accumulation_counts(here, say):
    arguments = ["find-lr", "digits", *TINY, "--start", "0.01", "--stop", "1", "--steps", 10, "--json"]
    whole, parts = (json.loads(say(*arguments, *more).out) for more in ([], ["--set", "optimiser.accumulate=4"]))
    assert whole["losses"][0] != parts["losses"][0]  # batch normalisation sees 16 images and not 64


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--start", "1", "--stop", "0.1"], "0 < start < stop"),
        (["--steps", "3"], "at least 10"),
        (["--out", "lr.gif"], ".png"),
        (["nosuch"], "nosuch"),
        (["--set", "optimiser.momentum=2"], "optimiser.momentum"),
    ],
)
def test_mistakes_are_one_line(refused, arguments, word):
    name = [] if arguments[0] == "nosuch" else ["digits"]
    refused(2, ["find-lr", *name, *arguments, *(TINY if "--out" in arguments else [])], word)

"""Studies that train arms and studies of their runs: a tiny one whole, by the commands; tables of arms as values."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import pytest

from campaigns import one_study
from residual.cli.main import app
from residual.cli.main import run as command
from residual.errors import UsageError
from residual.models import resolve
from residual.studies import arm_table
from residual.studies.arms import roughness, shortened, spread
from residual.studies.evidence import Refused, read, write
from residual.studies.pictures import pictures
from residual.studies.plans import CPU, GPU, OF_RUNS, plan_of
from residual.studies.rates import study_rates
from residual.studies.table import DEFINITIONS, PAPER
from residual.studies.training_studies import Wish, seed001, start_signals
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.train import train
from tests.conftest import ROOT
from tests.studies.test_evidence import sample

TINY = [
    "digits",
    *("--steps", "6", "--seeds", "2", "--log", "plain"),
    *("--set", "network.widths=[4,4,4]", "--set", "data.limit=100", "--set", "batch_size=40"),
    *("--set", "compute.precision=float32", "--set", "compute.threads=1", "--set", "evaluation.every_epochs=2"),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Plain networks of 8 and 14 layers, 6 steps, two seeds."""
    folder = tmp_path_factory.mktemp("study")
    arguments = ["study", "degradation", *TINY, "--depths", "8,14", "--kinds", "plain", "--out", str(folder)]
    assert command(arguments) == 0
    return folder, arguments


@pytest.fixture
def drawn(pictures, monkeypatch):
    """Figures of a study, not curves of each of its runs, which tests/cli looks at."""
    monkeypatch.setattr("residual.cli.drawing.draw_run", lambda folder: None)


@pytest.fixture(scope="module")
def runs(study):
    """Those of plain-8, and a residual one."""
    folder = study[0]
    settings = {"network.widths": [4, 4, 4], "network.depths": [1, 2, 2], "data.limit": 100, "steps": 6}
    fixed = {"batch_size": 40, "compute.threads": 1, "compute.precision": "float32", "network.name": "resnet-20"}
    train("digits", set=settings | fixed, out=folder / "residual")
    return [str(folder / "plain-8" / "seed-0"), str(folder / "plain-8" / "seed-1"), str(folder / "residual")]


def test_a_study_leaves_evidence_a_table_and_a_figure_and_goes_on(study, capsys, drawn):
    folder, arguments = study
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/result.json")}
    assert len(finished) == 4
    assert command([*arguments, "--json"]) == 0
    written = capsys.readouterr()
    said = json.loads(written.out)
    assert "plain-14, seed 1\n" in written.err
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "nothing is trained twice"
    assert (folder / "degradation-1.png").read_bytes().startswith(b"\x89PNG")
    measured = said["measured"]
    assert set(measured) == {"plain-8", "plain-14", "constructed"}
    results = [json.loads((folder / "plain-14" / f"seed-{seed}" / "result.json").read_bytes()) for seed in (0, 1)]
    errors = [100 * (1 - result["final"]["test"]["top1"]) for result in results]
    assert measured["plain-14"]["test_error"]["values"] == pytest.approx(errors)
    assert measured["plain-14"]["test_error"]["least"] == pytest.approx(min(errors))
    assert measured["constructed"]["relative_difference"] < 1e-4
    assert measured["constructed"]["layers"] == 14
    assert (said["seeds"], said["budget"]) == ([0, 1], "smoke")
    assert "6 iterations, where [1] trains for 64,000" in said["caveats"]
    assert str(folder) not in json.dumps({name: said[name] for name in said if name not in ("file", "pictures")})
    sessions = [json.loads(line) for line in (folder / "plain-8/seed-0/sessions.jsonl").read_text().splitlines()]
    assert (said["commit"], said["of"]) == (sessions[0]["commit"] or "installed", "the trainings")
    assert (said["versions"], said["machine"]) == (sessions[0]["versions"], sessions[0]["machine"])
    curve = said["series"]["curves"]["plain-8"]["test error"]
    assert curve["step"][-1] == 6


def test_figures_of_other_data_are_no_evidence_for_the_claims(study):
    with pytest.raises(Refused, match="recipe digits"):
        read(study[0] / "degradation.evidence.json", DEFINITIONS)


@pytest.mark.parametrize(
    ("name", "figures", "series"),
    [
        ("responses", {"response", "gradient_ratio"}, "responses"),
        ("lesion", {"error", "mean_rise", "silent_blocks"}, "lesions"),
        ("probes", {"probe_first", "probe_last", "similarity_within", "similarity_at_start"}, "probes"),
    ],
)
def test_trained_runs_are_measured_and_their_seeds_make_one_spread(
    runs, tmp_path, capsys, drawn, name, figures, series
):
    assert command(["study", name, *runs, "--images", "60", "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["measured"]) == {"plain-8", "resnet-20-as-12"}
    assert figures <= set(said["measured"]["resnet-20-as-12"])
    of_two = next(value for value in said["measured"]["plain-8"].values() if isinstance(value, dict))
    assert len(of_two["values"]) == 2
    assert set(said["series"][series]) == set(said["measured"])
    assert said["seeds"] == [0], "two seeds of one network are not two of all"
    assert "the networks have other seeds (plain-8: 0, 1; resnet-20-as-12: 0)" in said["caveats"]
    assert len(said["pictures"]) >= 1
    assert said["recipes"]["plain-8"]["name"] == "digits"


def test_a_study_of_fewer_images_than_were_asked_for_says_so(runs, tmp_path, capsys):
    assert command(["study", "responses", runs[0], "--images", "5000", "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["settings"]["images"] == 359
    assert "judged on 359 test images, all there are" in said["caveats"]


def test_a_study_of_runs_is_said_in_a_table(runs, tmp_path, capsys):
    assert command(["study", "responses", runs[0], "--images", "20", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "plain-8" in said
    assert "\ngradient ratio: the gradient at the output of the first convolution over that of the last\n" in said
    assert command(["study", "responses", runs[0], runs[0]]) == 2
    assert "named twice" in capsys.readouterr().err


def test_runs_of_one_network_that_are_no_seeds_of_one_training_are_refused(runs, tmp_path, capsys):
    other = {"network.widths": [4, 4, 4], "data.limit": 100, "steps": 6, "batch_size": 40, "network.name": "plain-8"}
    run = train("digits", set=other | {"seed": 2, "optimiser.weight_decay": 0.01}, out=tmp_path / "other")
    assert command(["study", "probes", runs[0], str(run.path), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "are both plain-8, and no seeds of one training: optimiser.weight_decay" in said
    assert len(said.splitlines()) == 1


def test_units_are_numbered_from_the_input_whether_they_can_be_deleted_or_not(runs, tmp_path, capsys):
    assert command(["study", "lesion", runs[2], "--images", "20", "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    points = said["series"]["lesions"]["resnet-20-as-12"]
    assert "2 of the 5 units of resnet-20-as-12 change the maps' form and are not deleted" in said["caveats"]
    assert said["settings"]["images"] == 20
    assert points["unit"] == [1, 3, 5], "of 1, 2 and 2 units the first of the later stages change their maps"
    assert points["swap"] == []


def test_a_study_of_runs_in_no_common_folder_asks_for_one_before_it_measures(runs, tmp_path, capsys, monkeypatch):
    shutil.copytree(runs[2], tmp_path / "a" / "b" / "c" / "run")
    monkeypatch.setattr("residual.studies.run_studies.study_responses", None)
    assert command(["study", "responses", runs[0], str(tmp_path / "a" / "b" / "c" / "run")]) == 2
    assert "these runs lie in no folder together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["degradation", "digits", "--depths", "20,20"], "no list of different"),
        (["degradation", "digits", "--depths", "9"], "no network of 9 layers"),
        (["degradation", "digits", "--kinds", "fancy"], "no kind of network"),
        (["units", "digits", "--seeds", "0"], "0 seeds are no study"),
        (["responses"], "no run was named"),
        (["lesion", "absent"], "no such run"),
        (["probes", "absent", "--images", "2"], "too few"),
        (["cost", "--turns", "0"], "measure nothing"),
        (["seed001", "digits", "--arms", "magic"], "no arm is named"),
        (["shortcuts", "digits", "--arms", "identity,identities"], "did you mean identity"),
        (["units", "digits", "--arms", "original", "--networks", "resnet-20"], "leave --arms or --networks out"),
        (["find-rate", "--seeds", "0"], "0 seeds are no study"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["study", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


ARMS = {
    "degradation": arm_table.degradation((20, 26, 56, 110), ("plain", "resnet", "preact")),
    "units": arm_table.units(32),
    "named": arm_table.units(0, ("resnet-110", "preact-110")),
    "shortcuts": arm_table.shortcuts(20),
    "momentum": arm_table.at_depth(arm_table.MOMENTUM, "resnet", 20),
    "batchnorm": arm_table.at_depth(arm_table.BATCHNORM, "plain", 20),
    "dropout": arm_table.at_depth(arm_table.DROPOUT, "plain", 20),
    "initialisation": arm_table.INITIALISATION,
    "seed001": arm_table.SEED001,
}


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_a_recipe_of_its_own_whose_network_can_be_built(name):
    recipe = RECIPES["seed001-onecycle" if name == "seed001" else PAPER]
    made = {arm: override(recipe, changes.items()) for arm, changes in ARMS[name].items()}
    assert len({recipe.model_dump_json() for recipe in made.values()}) == len(made)
    for arm, recipe in made.items():
        spec = resolve(recipe.network, classes=10)
        depth = arm.rpartition("-")[2]
        if depth.isdecimal() and name != "momentum":
            assert spec.weighted_layers == int(depth), arm


def test_deep_residual_networks_begin_with_the_papers_warm_up():
    arms = arm_table.degradation((56, 110), ("plain", "resnet"))
    assert [arm for arm, changes in arms.items() if "schedule.hold" in changes] == ["resnet-110"]
    assert all("schedule.warmup" in changes for changes in arm_table.units(20).values())


def test_a_shorter_run_drops_its_rate_at_the_same_shares():
    assert shortened(RECIPES[PAPER], 8000) == [("steps", 8000), ("schedule.drops", [4000, 6000])]
    assert shortened(RECIPES[PAPER], None) == []
    assert shortened(RECIPES["digits"], 100) == [("steps", 100)]


def test_a_spread_and_roughness_by_hand():
    found = spread([1.0, 2.0, 6.0])
    assert found.pop("std") == pytest.approx(7**0.5)
    assert found == {"mean": 3.0, "median": 2.0, "least": 1.0, "most": 6.0, "values": [1.0, 2.0, 6.0]}
    assert spread([1.0])["std"] is None
    assert roughness([3.0, 2.0, 2.5, 1.0]) == pytest.approx(0.5 / 3)
    assert roughness([3.0, 2.0, 1.0]) == 0


def test_signals_at_the_start_follow_the_formula_without_normalisation():
    found = start_signals(depth=20, images=4)
    bare = found["he-fan-in, bare"]
    assert len(bare["variance"]) == 19
    assert bare["formula"] == [1.0] * 19
    assert found["lecun, bare"]["formula"][3] == 0.125
    assert found["lecun, bare"]["variance"][-1] < 1e-3 * found["lecun, bare"]["variance"][0]
    assert bare["variance"][-1] > 1e-3 * bare["variance"][0]
    assert "formula" not in found["xavier, normalised"]
    drawn = "".join(pictures([sample(study="initialisation", series={"signals": found})]))
    assert drawn.count("<figure>") == 2
    assert "0.001" in drawn
    assert "mathdefault" not in drawn, "numbers of a logarithmic axis are plain text"


def test_range_tests_of_two_optimisers_are_evidence(cifar, tmp_path):
    few = [("data.path", str(cifar)), ("data.limit", 200), ("batch_size", 8), ("network.widths", [4, 4, 4, 4])]
    few.append(("compute.precision", "float32"))
    found = study_rates((0,), set=few, steps=10, command="c")
    assert set(found.series["rates"]) == {"adam", "sgd"}
    assert found.recipes["sgd"].changed["optimiser.kind"] == "sgd"
    assert "data.path" not in found.recipes["adam"].changed
    write(found, tmp_path / "find-rate.evidence.json")
    assert read(tmp_path / "find-rate.evidence.json", DEFINITIONS).seeds == (0,)


def test_the_document_names_every_study():
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    names = {name for name in app["study"] if not name.startswith("-")} - {"show"}
    assert {name for name in names if f"study {name}" in text or f"`{name}`" in text} == names


def test_plans_are_of_studies_that_exist():
    assert set(CPU) <= set(DEFINITIONS)
    assert set(GPU) == set(CPU)
    assert set(OF_RUNS) <= set(CPU)
    with pytest.raises(UsageError, match="no plan"):
        plan_of("degradation", "smoke")


def test_a_result_file_is_named_after_what_was_asked_for():
    usual = {"budget": "cpu", "first": 0, "steps": None, "width": None, "name": None}
    assert one_study.file_name("units", usual, {"depth": None}) == "units"
    assert one_study.file_name("units", usual | {"budget": "gpu"}, {"depth": 56}) == "units-gpu-56"
    longer = usual | {"steps": 64_000}
    assert one_study.file_name("degradation", longer, {"depths": [20, 56], "kinds": None}) == "degradation-64000-20-56"
    assert one_study.file_name("units", usual | {"first": 2}, {"depth": None}) == "units-from-2"
    assert one_study.file_name("units", usual | {"width": 8}, {"depth": 56}) == "units-width-8-56"
    assert one_study.file_name("degradation", longer | {"name": "full"}, {"depths": [20]}) == "degradation-full"


def test_a_campaign_is_the_plan_with_what_was_asked_for(monkeypatch, tmp_path):
    seen: dict = {}

    def watch(study, plan, **more):
        seen.update(study=study, plan=plan, **more)
        raise UsageError("far enough")

    monkeypatch.setattr(one_study, "carry_out", watch)
    monkeypatch.setattr(one_study, "cifar_folder", lambda: "CIFAR")
    from campaigns import degradation, find_rate, responses, units

    with pytest.raises(UsageError, match="far enough"):
        degradation.main(["--depths", "20", "--seeds", "1", "--steps", "64000", "--threads", "1", "--name", "full"])
    assert (seen["plan"].seeds, seen["plan"].steps) == ((0,), 64_000)
    assert seen["plan"].options == {"depths": [20], "kinds": ("plain", "resnet")}
    assert ("compute.threads", 1) in seen["plan"].set
    assert seen["root"].name == "studies-cpu-64000"
    assert seen["command"] == (
        "make campaign degradation ARGS='--depths 20 --seeds 1 --steps 64000 --threads 1 --name full'"
    )
    with pytest.raises(UsageError, match="far enough"):
        degradation.main(["--first", "1"])
    assert seen["plan"].seeds == (1, 2), "as many as the plan has"
    with pytest.raises(UsageError, match="far enough"):
        units.main(["--width", "8", "--arms", "original", "full-pre-activation"])
    assert ("network.widths", [8, 16, 32]) in seen["plan"].set
    assert seen["plan"].options == {"depth": 20, "arms": ["original", "full-pre-activation"]}
    assert seen["root"].name == "studies-cpu-width-8", "other networks lie in another folder"
    with pytest.raises(UsageError, match="far enough"):
        units.main(["--width", "16"])
    assert "network.widths" not in dict(seen["plan"].set), "as wide as the paper's"
    with pytest.raises(SystemExit):
        find_rate.main(["--width", "8"])
    with pytest.raises(UsageError, match="far enough"):
        responses.main(["--seeds", "1", "--threads", "1"])
    assert seen["root"].name == "studies-cpu"
    trained = seen["plan"].options["degradation"]
    assert (trained["seeds"], trained["steps"]) == ((0,), 8000)
    assert ("compute.threads", 1) in trained["set"]


def test_the_formula_counts_what_every_layer_takes_in_and_gives_out():
    found = start_signals(20, 64)
    over = {}
    for kind, first in (("he-fan-in", 1.0), ("lecun", 0.5), ("xavier", 0.5)):
        formula, measured = (found[f"{kind}, bare"][name] for name in ("formula", "variance"))
        assert formula[:2] == [1.0, first]
        over[kind] = [value / measured[0] / right for value, right in zip(measured, formula, strict=True)]
    # The same draws, each layer's times a number: what the formula leaves over is the same for all of them.
    assert over["lecun"] == pytest.approx(over["he-fan-in"], rel=1e-4)
    assert over["xavier"] == pytest.approx(over["he-fan-in"], rel=1e-4)
    xavier = found["xavier, bare"]["formula"]
    ratios = [after / before for before, after in pairwise(xavier)]
    assert sorted({round(ratio, 6) for ratio in ratios}) == [round(1 / 3, 6), 0.5]
    assert sum(ratio < 0.4 for ratio in ratios) == 2, "16 to 32 and 32 to 64 filters"


SMALL = (
    "--log",
    "plain",
    "--seeds",
    "1",
    "--set",
    "data.limit=60",
    "--set",
    "batch_size=30",
    "--set",
    "compute.threads=1",
)


def test_units_of_a_recipe_with_one_cycle_need_no_warm_up(tmp_path, capsys):
    narrow = ("--set", "network.widths=[4,4,4]", "--steps", "2", "--out", str(tmp_path))
    assert command(["study", "units", "digits", "--depth", "8", *SMALL, *narrow]) == 0
    assert "warm-up is left out: the schedule one-cycle has none" in capsys.readouterr().err


def test_an_arm_that_does_not_train_is_a_result_and_keeps_no_other_from_training(tmp_path, capsys, monkeypatch):
    fails = {"network.norm": "none", "schedule.peak": 1000.0, "schedule.start_divisor": 1.0}
    monkeypatch.setattr(arm_table, "SEED001", {"first": {}, "fails": fails, "last": {"optimiser.weight_decay": 0.0}})
    narrow = ("--set", "network.name=resnet-8", "--set", "network.widths=[4,4,4]", "--set", "compute.precision=float32")
    length = ("--set", "epochs=none", "--set", "steps=12", "--out", str(tmp_path), "--json")
    found = command(["study", "seed001", "digits", *SMALL, *narrow, *length])
    said = capsys.readouterr()
    assert found == 0, said.err
    value = json.loads(said.out)
    assert set(value["measured"]) == set(value["recipes"]) == {"first", "last"}
    assert any(caveat.startswith("fails did not train: ") for caveat in value["caveats"])


def test_a_length_in_steps_makes_the_longer_arm_of_seed_001_longer_by_as_much(monkeypatch):
    asked = {}

    def caught(study, arms, wish, *rest, **more):
        asked.update(arms)
        raise UsageError("enough", "here", "stop")

    monkeypatch.setattr("residual.studies.training_studies._run", caught)
    with pytest.raises(UsageError, match="enough"):
        seed001(Wish("seed001-onecycle", (0,), 100), ("as-described", "longer"))
    assert asked == {"as-described": {}, "longer": {"steps": 400}}


def test_drops_in_steps_of_a_recipe_in_epochs_are_not_left_where_they_are():
    recipe = override(RECIPES[PAPER], [("epochs", 164.0)])
    with pytest.raises(UsageError, match=r"measured in epochs and its drops of the rate in steps"):
        shortened(recipe, 8000)

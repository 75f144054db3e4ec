"""A length from a budget: the sums beside a count by hand, a trial that touches nothing, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from campaigns.running import fingerprint
from residual.analysis.origins import settings as origins
from residual.cli.words import choices
from residual.data.resizing import side_at
from residual.errors import StorageError, UsageError
from residual.training import budget
from residual.training.budget import ENDING, SLACK, Costs, Work, expected, longest
from residual.training.durations import in_words, seconds_of
from residual.training.recipe import override, read_recipe
from residual.training.recipes import RECIPES
from residual.training.schedules import Cosine, OneCycle, Plateau, Steps, WarmUp, in_proportion
from residual.training.train import train
from residual.training.trial import Trial
from tests.whole.test_resume_every_part import TINY

COSTS = Costs(steps=(0.2, 0.3, 0.5), warming=1.5, epoch=0.1, evaluated_image=0.001, checkpoint=0.25, opening=2.0)
WORK = Work(
    images=4500,
    batch_size=100,
    stages=((0.35, 20), (0.65, 24)),
    every_epochs=1.0,
    validation=500,
    test=1000,
    watched=False,
    judged_twice=False,
    precise=0,
    every_seconds=60.0,
    every_steps=None,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86_400), (" 15M ", 900)],
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text, "--budget") == seconds
    assert seconds_of(in_words(seconds), "") == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "15 m 3", "-5m", "0s", "1e3s", "30m1h", "400d", "fifteen", "nanm"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time between a second and a year") as caught:
        seconds_of(text, "--budget")
    assert "15m" in caught.value.remedy


def test_a_length_is_said_in_words() -> None:
    assert [in_words(s) for s in (0.2, 59.6, 61, 3600, 90_061)] == ["0s", "1m", "1m1s", "1h", "1d1h1m1s"]


@pytest.mark.parametrize("steps", [1, 7, 45, 46, 1000])
@pytest.mark.parametrize("watched", [False, True])
def test_what_is_expected_is_what_a_run_does_counted_one_by_one(steps: int, watched: bool) -> None:
    work = Work(**{**WORK.__dict__, "watched": watched, "precise": 300, "judged_twice": True, "every_steps": 10})
    total = COSTS.opening + COSTS.warming
    for step in range(steps):
        cost = dict(zip((20, 24, None), COSTS.steps, strict=True))
        total += cost[side_at(work.stages, step, steps)]
        if step and int(step * 100 / 4500) > int((step - 1) * 100 / 4500):  # as Session.due has it
            total += 0.001 * (500 + (1000 if watched else 0))
    total += 0.1 * -(-steps * 100 // 4500)
    total += 0.001 * (500 + 2 * 1000 + 300)
    checkpoints = 3 + steps / 10 + total / 60
    assert expected(steps, COSTS, work) == pytest.approx(total + 0.25 * checkpoints + ENDING)


@pytest.mark.parametrize("seconds", [10.0, 31.0, 900.0, 86_400.0])
def test_the_longest_run_fits_and_one_step_more_does_not(seconds: float) -> None:
    steps = longest(seconds, COSTS, WORK)
    assert expected(steps, COSTS, WORK) * (1 + SLACK) <= seconds < expected(steps + 1, COSTS, WORK) * (1 + SLACK)
    assert longest(3.0, COSTS, WORK) == 0


def test_drops_keep_their_share_of_the_run() -> None:
    paper = RECIPES["cifar10-paper"].schedule
    shorter = in_proportion(paper, 64_000, 6_400)
    assert isinstance(shorter, Steps)
    assert shorter.drops == (3_200, 4_800)
    for share in (0, 0.3, 0.49, 0.5, 0.74, 0.75, 0.999):
        assert shorter.rate_at(int(share * 6_400), 6_400, {}) == paper.rate_at(int(share * 64_000), 64_000, {})
    same: list[Any] = [OneCycle(), Cosine(warmup=WarmUp(steps=10)), Plateau()]
    assert [in_proportion(schedule, 64_000, 6_400) for schedule in same] == same


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="drops of the rate would be at steps 1, 1"):
        in_proportion(Steps(), 64_000, 1)
    with pytest.raises(ValueError, match="the warm-up alone takes 400"):
        in_proportion(Cosine(warmup=WarmUp(steps=400)), 64_000, 300)
    with pytest.raises(ValueError, match="drops of the rate would be at steps 320, 480"):
        in_proportion(Steps(warmup=WarmUp(steps=400, shape="constant")), 64_000, 640)


OPEN = {name: value for name, value in TINY.items() if name != "steps"} | {"epochs": 8}
CHANGES = {
    "schedule.kind": "steps",
    "schedule.rate": 0.05,
    "schedule.drops": [20, 30],
    "data.augment.sizes": [[0.4, 16]],
    "network.dropout": 0.2,
    "optimiser.average": 0.9,
    "evaluation.best": "loss",
}


def test_a_trial_leaves_no_trace_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = override(RECIPES["digits"], list((OPEN | CHANGES).items()))
    monkeypatch.setattr(budget, "longest", lambda seconds, costs, work: 6)  # what it comes to depends on the machine
    torch.manual_seed(7)
    state = torch.get_rng_state()
    run = train(recipe, out=tmp_path / "budget", budget="20s")
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["budget"]  # nor of the trial's checkpoint
    drops = [20 * 6 // 36, 30 * 6 // 36]  # 8 epochs of 144 images are 36 steps of 32
    plain = train(recipe, set={"steps": 6, "schedule.drops": drops}, out=tmp_path / "plain")
    assert fingerprint(run.path) == fingerprint(plain.path)

    facts = run.facts()
    measured = facts["chosen"]["budget"]
    assert facts["chosen"]["steps"] == 6
    assert facts["changed"]["steps"] == 6
    assert facts["changed"]["schedule.drops"] == drops
    assert (measured["seconds"], measured["slack"]) == (20.0, SLACK)
    costs = measured["costs"]
    assert len(costs["steps"]) == 2
    assert all(value > 0 for value in [*costs["steps"], costs["evaluated_image"], costs["checkpoint"]])
    assert measured["images_per_second"] == pytest.approx(32 / costs["steps"][-1])
    assert read_recipe(run.path / "recipe.toml").steps == 6  # so that the stored recipe repeats the run
    said = choices(facts, {"run": "r", "step": 0, "steps": 6})
    assert any(line.startswith("chosen   steps 6 (1.333 epochs in 20s: measured ") for line in said)
    assert "chosen   schedule.drops [3, 5] (in proportion to the length, which was 36 steps)" in said
    assert sum(line.startswith("ends     about ") for line in said) == 1
    assert not any(line.startswith("ends") for line in choices(facts, {"run": "r", "step": 3, "steps": 6}))
    told = {setting.path: setting.origin for setting in origins(facts)}
    assert told["steps"].startswith("chosen: 1.333 epochs in 20s")


@pytest.mark.parametrize("given", [{"epochs": 3}, {"steps": 3}])
def test_a_budget_and_a_length_exclude_each_other(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a budget chooses the length"):
        train("digits", set=given, out=tmp_path / "run", budget="1m")
    assert not (tmp_path / "run").exists()


def test_a_budget_without_room_for_a_step_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="within 1s not one step fits"):
        train(override(RECIPES["digits"], list(OPEN.items())), out=tmp_path / "run", budget="1s")
    assert list(tmp_path.iterdir()) == []


def test_a_drive_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def absent(path: Path) -> bool:
        asked.append(path)
        assert len(asked) < 20, "it is asked for over and over again"
        return False

    monkeypatch.setattr(Path, "is_dir", absent)
    trial: Any = None  # nothing of it is needed
    with pytest.raises(StorageError, match="there is no such drive"):
        Trial.checkpoint_seconds(trial, Path("/drive/runs/a"))

"""A finished run goes on in a run of its own: bit for bit a longer run where the schedule allows it, else as stated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from campaigns.running import fingerprint
from residual.cli.main import run as command
from residual.errors import Interrupted, ModelError, UsageError
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.training.extending import Until, continued, extend
from residual.training.progress import Silent
from residual.training.recipe import read_recipe
from residual.training.schedules import Cosine, OneCycle, Plateau, Steps, WarmUp
from residual.training.train import resume, train
from tests.cli.conftest import photograph
from tests.whole.test_resume_every_part import TINY, Interrupting

STEPS = {"schedule.kind": "steps", "schedule.rate": 0.05, "schedule.drops": [7]}
EVERYTHING = (
    TINY
    | STEPS
    | {
        "steps": 6,
        "network.dropout": 0.2,
        "optimiser.average": 0.9,
        "evaluation.best": "loss",
        "checkpoint.every_steps": 3,
    }
)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train("digits", set=EVERYTHING, out=tmp_path_factory.mktemp("parent") / "short")


def test_where_the_schedule_goes_on_it_is_the_longer_run_to_the_last_bit(parent: RunFolder, tmp_path: Path) -> None:
    before = photograph(parent.path)
    child = extend(parent.path, "9steps", out=tmp_path / "child")
    assert photograph(parent.path) == before
    longer = train("digits", set=EVERYTHING | {"steps": 9}, out=tmp_path / "longer")
    own, other = fingerprint(child.path), fingerprint(longer.path)
    assert {name: value for name, value in own.items() if name != "records"} == {
        name: value for name, value in other.items() if name != "records"
    }
    assert timeless(child.records()) == [record for record in timeless(longer.records()) if record["step"] > 6]

    facts, result, short = child.facts(), child.result(), parent.result()
    assert result is not None
    assert short is not None
    assert facts["parent"]["run"] == "short"
    assert (facts["parent"]["step"], result["steps"], result["parent"]["final"]) == (6, 9, short["final"])
    assert "path" not in result["parent"]
    assert facts["reasons"]["schedule"].startswith("the schedule steps goes on as it is, from 0.05")
    assert read_recipe(child.path / "recipe.toml") == read_recipe(longer.path / "recipe.toml")
    assert json.loads((child.path / "split.json").read_text()) == parent.split()


def test_an_extension_resumes_like_any_run(parent: RunFolder, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"schedule.kind": "one-cycle", "schedule.peak": 0.02, "schedule.first": 6}
    alone = extend(parent.path, "10steps", set=asked, out=tmp_path / "alone")
    with pytest.raises(Interrupted):
        extend(parent.path, "10steps", set=asked, out=tmp_path / "cut", listener=Interrupting(8))
    assert RunFolder(tmp_path / "cut").steps() == [8, 6]
    resume(tmp_path / "cut")
    assert fingerprint(tmp_path / "cut") == fingerprint(alone.path)
    rates = [record["rate"] for record in alone.records() if record["kind"] == "train"]
    assert rates[-1] == pytest.approx(0.02 / 1e5)
    assert (
        "but for schedule.kind, schedule.peak, schedule.first, which was asked for"
        in alone.facts()["reasons"]["schedule"]
    )


class Killed(Silent):
    def began(self, plan: dict[str, Any]) -> None:
        raise KeyboardInterrupt  # before anything of the run but its first files was written


def test_one_that_was_killed_before_its_first_checkpoint_goes_on_from_its_parent(
    parent: RunFolder, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(parent.path, tmp_path / "moved"))
    with pytest.raises(KeyboardInterrupt):
        extend(moved, "9steps", out=tmp_path / "child", listener=Killed())
    child = RunFolder(tmp_path / "child")
    assert child.steps() == []
    shutil.move(moved, tmp_path / "away")
    with pytest.raises(UsageError, match="no such run"):
        resume(child.path)
    other = train("digits", set=EVERYTHING | {"seed": 5}, out=moved)
    with pytest.raises(ModelError, match="is not what it was"):
        resume(child.path)
    shutil.rmtree(other.path)
    shutil.move(tmp_path / "away", moved)
    assert resume(child.path).result() is not None


def test_a_cycle_that_has_ended_begins_again_at_half_its_height() -> None:
    first, total = 100, 181
    cycle = OneCycle(peak=0.2, end_divisor=1e4, momentum_low=0.85)
    end = cycle.rate_at(first - 1, first, {})
    again, why = continued(cycle, first, total, end)
    assert isinstance(again, OneCycle)
    assert [again.rate_at(step, total, {}) for step in (first, first + 20, total - 1)] == pytest.approx([end, 0.1, end])
    assert again.momentum_at(first, total, 0.95) == pytest.approx(0.95)
    assert why == "a second cycle from 2e-05 up to 0.1, half the peak before, and down again"
    third, _ = continued(again, total, 300, end)
    assert isinstance(third, OneCycle)
    assert (third.peak, third.first) == (0.05, 181)


@pytest.mark.parametrize("peak", [0.1, 0.2, 0.3, 0.4])
def test_the_recipe_of_a_second_cycle_has_numbers_for_people(peak: float) -> None:
    cycle = OneCycle(peak=peak, end_divisor=1e4)
    for length in (99, 100, 187, 391):
        end = cycle.rate_at(length - 1, length, {})
        again, _ = continued(cycle, length, 2 * length, end)
        assert isinstance(again, OneCycle)
        assert len(repr(again.start_divisor)) <= 13, again.start_divisor
        assert again.rate_at(length, 2 * length, {}) == pytest.approx(end, rel=1e-11)
        cosine, _ = continued(Cosine(rate=peak, warmup=WarmUp(steps=5)), length, 2 * length, end)
        assert isinstance(cosine, Cosine)
        assert len(f"{cosine.warmup.rate!r}".partition("e")[0]) <= 14, cosine.warmup.rate


def test_a_cycle_that_was_stopped_on_its_way_is_said_to_fall() -> None:
    _, why = continued(OneCycle(peak=0.9), 40, 80, 0.844)
    assert why == "a second cycle, at once from 0.844 down to 0.45, half the peak before, and on down"
    _, why = continued(Cosine(rate=0.9), 40, 80, 0.844)
    assert why == "a second cosine from 0.844 down to 0.45, half the rate before, and down again"


def test_a_cosine_that_has_ended_rises_again_to_half() -> None:
    cosine = Cosine(rate=0.1, warmup=WarmUp(steps=5))
    end = cosine.rate_at(99, 100, {})
    again, why = continued(cosine, 100, 200, end)
    assert [again.rate_at(step, 200, {}) for step in (100, 105)] == pytest.approx([end, 0.05])
    assert again.rate_at(199, 200, {}) < 1e-4
    assert "a second cosine" in why


@pytest.mark.parametrize("schedule", [Steps(), Plateau()])
def test_what_depends_on_iterations_and_events_goes_on(schedule: Any) -> None:
    assert continued(schedule, 10, 20, 0.1)[0] == schedule


@pytest.mark.parametrize("length", [None, 90, 100])
def test_drops_at_shares_of_the_run_stay_where_they_were(length: int | None) -> None:
    schedule = Steps(drops=(80,), shares=(1 / 3, 2 / 3))
    whole = length or 90
    last = schedule.rate_at(89, whole, {})
    again, why = continued(schedule, 90, 180, last, length)
    before = [schedule.rate_at(step, whole, {}) for step in range(90)]
    assert [again.rate_at(step, 180, {}) for step in range(180)] == before + 90 * [last]
    assert why == "the schedule steps goes on from 0.0001, its drops where they were"


@pytest.mark.parametrize("kind", [OneCycle, Cosine])
def test_a_schedule_that_begins_at_zero_is_what_it_was(kind: Any) -> None:
    for step in range(50):
        shifted = kind(first=30).rate_at(step + 30, 80, {})
        assert shifted == kind().rate_at(step, 50, {})


def test_lengths() -> None:
    assert [Until.of(text).steps(1000, 100) for text in ("60", "1.5", "2 epochs", "70steps")] == [600, 15, 20, 70]
    for text in ("", "-3", "0", "1.5steps", "60 minutes", "nan"):
        with pytest.raises(UsageError, match="is no length"):
            Until.of(text)


def test_small_images_belong_to_the_beginning_and_a_cycle_is_said_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TINY | {
        "steps": 4,
        "data.augment.sizes": [[0.9, 8]],
        "evaluation.patience": 1,
        "evaluation.best": "top1",
    }
    train("digits", set=settings, out="short")
    ended = RunFolder(Path("short")).result()
    assert ended is not None
    capsys.readouterr()
    assert command(["train", "--resume", "short", "--extend-to", "1.5", "--out", "long", "--log", "plain"]) == 0
    said = capsys.readouterr().out
    assert f"extends  short, which ended at step {ended['steps']}: a second cycle from" in said
    child = RunFolder(Path("long"))
    facts = child.facts()
    assert facts["recipe"]["data"]["augment"]["sizes"] == []
    assert facts["recipe"]["schedule"]["first"] == ended["steps"]
    assert facts["chosen"]["steps"] == 7  # 1.5 epochs of 144 images in batches of 32
    with pytest.raises(UsageError, match="where another run has ended"):
        train(read_recipe(child.path / "recipe.toml"), out="again")


def test_what_cannot_be_extended_is_one_line(
    parent: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    open_run = Path(shutil.copytree(parent.path, tmp_path / "open"))
    (open_run / "result.json").unlink()
    lost = Path(shutil.copytree(parent.path, tmp_path / "lost"))
    shutil.rmtree(lost / "checkpoints" / "step-00000006")
    run, before = str(parent.path), photograph(tmp_path)
    cases: list[tuple[int, list[str], str]] = [
        (2, ["--extend-to", "9"], "no run to extend was named"),
        (2, ["digits", "--resume", run, "--extend-to", "9"], "keeps its recipe"),
        (2, ["--resume", run, "--extend-to", "9", "--budget", "1m"], "keeps its recipe"),
        (2, ["--resume", run, "--extend-to", "6steps"], "6 steps are 6 steps, and the run has 6 already"),
        (2, ["--resume", run, "--extend-to", "1"], "and the run has 6 already"),
        (2, ["--resume", run, "--extend-to", "soon"], "is no length"),
        (2, ["--resume", run, "--extend-to", "9", "--seed", "3"], "keeps the run's own seed"),
        (2, ["--resume", run, "--extend-to", "9", "--set", "optimiser.momentum=0.5"], "own optimiser.momentum"),
        (2, ["--resume", "open", "--extend-to", "9"], "the run is not finished"),
        (4, ["--resume", "lost", "--extend-to", "9"], "the checkpoint of its last step, 6, is gone or damaged"),
        (2, ["--resume", run, "--extend-to", "9", "--out", run], "a run stands there already"),
    ]
    for code, arguments, words in cases:
        assert command(["train", *arguments]) == code, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert words in line, line
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert command(["train", "--resume", run, "--extend-to", "9"]) == 2
    assert "a run is extended by one process" in capsys.readouterr().err
    assert photograph(tmp_path) == before

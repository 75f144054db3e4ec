"""What TensorBoard itself reads of a run, live, killed and resumed, or converted later."""

from __future__ import annotations

import builtins
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from residual.errors import EnvironmentFault, StorageError
from residual.runs.folder import RunFolder
from residual.runs.records import evaluation_record, event_record, train_record
from residual.training import tensorboard
from residual.training.progress import Silent
from residual.training.tensorboard import Board, Points, write_events
from residual.training.train import resume, train

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 100,
    "batch_size": 30,
    "steps": 9,
    "compute.precision": "float32",
    "compute.threads": 1,
    "checkpoint.every_steps": 5,
    "schedule": {"kind": "steps", "drops": [], "hold": {"rate": 0.01, "until_error": 0.99, "window": 2}},
}
SCORES = {"loss": 0.5, "top1": 0.75, "top3": 0.9, "top5": 1.0}


class Counting(Silent):
    """Counts what is handed on, and ends the run after a step as a broken machine does."""

    def __init__(self, stop: int = -1) -> None:
        self.stop, self.calls = stop, dict.fromkeys(("began", "stepped", "recorded", "saved", "ended"), 0)

    def began(self, plan):
        self.calls["began"] += 1

    def stepped(self, step, images):
        self.calls["stepped"] += 1
        if step == self.stop:
            raise ZeroDivisionError

    def recorded(self, record):
        self.calls["recorded"] += 1

    def saved(self, step):
        self.calls["saved"] += 1

    def ended(self):
        self.calls["ended"] += 1


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def scalars(board: EventAccumulator) -> dict[str, dict[int, float]]:
    """Value by step of every series; a step that comes twice is a fault."""
    found = {}
    for tag in board.Tags()["scalars"]:
        steps = [event.step for event in board.Scalars(tag)]
        assert len(set(steps)) == len(steps), f"{tag}: {steps}"
        found[tag] = {event.step: event.value for event in board.Scalars(tag)}
    return found


def expected(run: RunFolder) -> dict[str, dict[int, Any]]:
    """The same from the records, in another way."""
    found: dict[str, dict[int, Any]] = {}
    for record in run.records():
        if record["kind"] == "event":
            continue
        split = record.get("split", "training")
        for name in ("loss", "top1", "top3", "top5"):
            found.setdefault(f"{name}/{split}", {})[record["step"]] = pytest.approx(record[name], rel=1e-6)
        found.setdefault(f"error/{split}", {})[record["step"]] = pytest.approx(1 - record["top1"], abs=1e-6)
        for name in ("rate", "momentum") if record["kind"] == "train" else ():
            found.setdefault(name, {})[record["step"]] = pytest.approx(record[name], rel=1e-6)
    return found


def text(board: EventAccumulator, tag: str) -> str:
    (event,) = board.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train("digits", set=TINY, out=tmp_path_factory.mktemp("runs") / "run", listener=Board(Silent()))


def test_a_run_shows_what_its_records_say(finished):
    board = read(finished.path / "tensorboard")
    found = scalars(board)
    rates = found.pop("images per second")
    assert found == expected(finished)
    assert set(rates) == set(found["rate"])
    assert all(rate > 0 for rate in rates.values())
    assert set(found) >= {"loss/validation", "error/test", "top5/training"}
    assert text(board, "recipe").splitlines()[0] == "    format = 1"
    assert text(board, "events/training-error-below").endswith(" at step 2")


def test_its_settings_are_in_the_table_of_hyperparameters(finished):
    from tensorboard.plugins.hparams import plugin_data_pb2

    board = read(finished.path / "tensorboard")
    parts = {}
    for tag, content in board.PluginTagToContent("hparams").items():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        parts[tag.split("/")[-1]] = data
    assert set(parts) == {"experiment", "session_start_info", "session_end_info"}
    settings = parts["session_start_info"].session_start_info.hparams
    assert settings["network.name"].string_value == "resnet-8"
    assert settings["batch_size"].number_value == 30
    assert settings["compute.deterministic"].string_value == "false"
    metrics = {metric.name.tag for metric in parts["experiment"].experiment.metric_infos}
    assert metrics <= set(scalars(board))


@pytest.mark.parametrize(("stop", "seen"), [(4, {3}), (7, {3, 6})])
def test_a_run_that_was_cut_and_resumed_shows_no_step_twice(finished, tmp_path, stop, seen):
    """A TensorBoard that watched the first sitting and one that comes later see the same."""
    with pytest.raises(ZeroDivisionError):
        train("digits", set=TINY, out=tmp_path / "run", listener=Board(Counting(stop)))
    folder = tmp_path / "run" / "tensorboard"
    watching = read(folder)
    before = scalars(watching)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-7])  # what a crash of the machine leaves of the last event
    run = resume(tmp_path / "run", listener=Board(Silent()))
    later = scalars(read(folder))
    rates = later.pop("images per second")
    assert later == expected(run) == expected(finished)
    assert set(rates) == set(later["rate"])
    assert set(before["loss/training"]) == seen, "steps the first sitting told, some after its last checkpoint"
    assert file.stat().st_size == 0
    assert len(list(folder.iterdir())) == 2
    now = scalars(watching.Reload())
    now.pop("images per second")
    assert now == later


def test_a_run_of_long_ago_is_converted_as_it_would_have_been_written(finished, tmp_path):
    write_events(finished, tmp_path / "new" / "folder")
    live, converted = read(finished.path / "tensorboard"), read(tmp_path / "new" / "folder")
    assert scalars(live) == scalars(converted)
    for tag in live.Tags()["scalars"]:
        assert [e.wall_time for e in live.Scalars(tag)] == [e.wall_time for e in converted.Scalars(tag)]
    golden = RunFolder(Path(__file__).parents[1] / "golden" / "run-format-1")
    write_events(golden, tmp_path / "golden")
    found = scalars(read(tmp_path / "golden"))
    found.pop("images per second")
    assert found == expected(golden)


def test_converting_again_leaves_one_file_of_ours_with_events_and_what_is_not_ours(finished, tmp_path):
    (tmp_path / "events.out.tfevents.1.someone").write_bytes(b"theirs")
    for _ in range(3):
        write_events(finished, tmp_path)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.pop("events.out.tfevents.1.someone") == len(b"theirs")
    assert [size > 0 for _, size in sorted(sizes.items())] == [False, False, True]


def test_images_per_second_leave_evaluations_out():
    points = Points()
    records = [
        train_record(10, 1.0, 1000, SCORES, 0.1, 0.9, {"seconds": 2.0}),
        evaluation_record("validation", 10, 1.0, 9, SCORES, False, {"seconds": 3.0}),
        event_record("below", 15, 0.25),
        train_record(20, 2.0, 1000, SCORES, 0.1, 0.9, {"seconds": 9.0}),
        train_record(30, 3.0, 1000, SCORES, 0.1, 0.9, {"seconds": 9.0}),
    ]
    found = [point for record in records for point in points.of(record)]
    assert [(p.step, p.value) for p in found if p.tag == "images per second"] == [(10, 500.0), (20, 250.0)]
    assert {(p.step, p.seconds) for p in found} == {(10, 2.0), (10, 5.0), (15, 5.0), (20, 9.0), (30, 9.0)}
    assert [p.value for p in found if p.tag == "events/below"] == ["0.25 at step 15"]
    assert {p.value for p in found if p.tag == "error/validation"} == {0.25}


# What fails leaves the training alone


@pytest.fixture
def told(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(logging.getLogger("residual"), "warning", lambda text, *values: lines.append(text % values))
    return lines


def go(folder: Path) -> Counting:
    inner = Counting()
    run = train("digits", set=TINY, out=folder, listener=Board(inner))
    assert run.result() is not None
    assert inner.calls["stepped"] == 9
    assert inner.calls["recorded"] == len(run.records())
    assert (inner.calls["began"], inner.calls["saved"], inner.calls["ended"]) == (1, 3, 1)
    return inner


def test_without_the_package_training_goes_on_with_one_line(tmp_path, told, monkeypatch, finished):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return real(name, *rest)

    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    go(tmp_path / "run")
    assert len(told) == 1
    assert "pip install tensorboard" in told[0]
    with pytest.raises(EnvironmentFault, match=r"No module named 'tensorboard'.*pip install"):
        write_events(finished, tmp_path / "events")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


class Full:
    """A disk that is full after some writes."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("left", [0, 3, 20])
def test_a_full_disk_for_the_events_alone(tmp_path, told, monkeypatch, left):
    from tensorboard.summary.writer.record_writer import RecordWriter

    monkeypatch.setattr(RecordWriter, "write", Full(left))
    go(tmp_path / "run")
    assert len(told) == 1
    assert "No space left on device" in told[0]


def test_a_file_where_the_folder_should_be(tmp_path, told, monkeypatch, finished):
    class Blocking(Counting):
        def began(self, plan):
            super().began(plan)
            (Path(plan["run"]) / "tensorboard").write_text("mine")

    train("digits", set=TINY, out=tmp_path / "run", listener=Board(Blocking()))
    assert len(told) == 1
    assert "the training goes on" in told[0]
    assert (tmp_path / "run" / "tensorboard").read_text() == "mine"
    with pytest.raises(StorageError, match="cannot write"):
        write_events(finished, tmp_path / "run" / "tensorboard")


def test_a_fault_of_the_library_itself(tmp_path, told, monkeypatch):
    def broken(*_: object) -> None:
        raise TypeError("Descriptors cannot be created directly")

    monkeypatch.setattr(tensorboard, "EventFile", broken)
    go(tmp_path / "run")
    assert told == [
        "nothing more is written for TensorBoard, the training goes on without: "
        "TypeError: Descriptors cannot be created directly"
    ]


def test_the_run_is_the_same_with_and_without(finished, tmp_path):
    plain = train("digits", set=TINY, out=tmp_path / "run")
    weights = [(run.model_path / "model.safetensors").read_bytes() for run in (plain, finished)]
    assert weights[0] == weights[1]
    assert {p.name for p in finished.path.iterdir()} - {p.name for p in plain.path.iterdir()} == {"tensorboard"}

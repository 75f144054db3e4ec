"""What happened at which step: one form for each kind of line, and what the clock says set apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.files import Appender, canonical, read_lines
from residual.runs import records
from residual.runs.records import (
    evaluation_record,
    event_record,
    last_figures,
    last_of,
    lines_backwards,
    timeless,
    train_record,
)

SCORES = {"loss": 0.5, "top1": 0.8, "top3": 0.9, "top5": 1.0}
RECORDS = [
    train_record(10, 0.5, 1280, SCORES, 0.1, 0.9, {"seconds": 1.5}),
    evaluation_record("validation", 10, 0.5, 144, SCORES, False, {"seconds": 2.5}),
    event_record("warm", 12, 0.7),
    evaluation_record("validation", 20, 1.0, 144, SCORES | {"top1": 0.9}, True, {"seconds": 4.5}),
    evaluation_record("test", 20, 1.0, 359, SCORES, True, {"seconds": 5.5}),
]


def test_lines_have_their_fields():
    figures: dict[str, object] = {"step": 10, "epoch": 0.5, "images": 1280, **SCORES, "rate": 0.1, "momentum": 0.9}
    assert RECORDS[0] == {"kind": "train", "measure": "running", **figures, "time": {"seconds": 1.5}}
    figures = {"split": "test", "step": 20, "epoch": 1.0, "images": 359, **SCORES, "final": True}
    assert RECORDS[4] == {"kind": "evaluation", "measure": "evaluated", **figures, "time": {"seconds": 5.5}}
    assert RECORDS[2] == {"kind": "event", "name": "warm", "step": 12, "value": 0.7}


def test_lines_survive_their_file(tmp_path):
    book = Appender(tmp_path / "records.jsonl")
    for record in RECORDS:
        book.append(record)
    book.close()
    assert read_lines(tmp_path / "records.jsonl") == RECORDS


def test_runs_compare_without_the_clock():
    slower = [json.loads(json.dumps(record)) | {"time": {"seconds": 99}} for record in RECORDS]
    assert slower != RECORDS
    assert timeless(slower) == timeless(RECORDS)
    assert "time" in RECORDS[0]
    other = [*RECORDS[:-1], RECORDS[-1] | {"loss": 0.6}]
    assert timeless(other) != timeless(RECORDS)


@pytest.mark.parametrize(
    ("kind", "split", "place"),
    [
        ("train", None, 0),
        ("evaluation", None, 4),
        ("evaluation", "validation", 3),
        ("evaluation", "test", 4),
        ("event", None, 2),
        ("evaluation", "training", None),
        ("train", "test", None),
    ],
)
def test_the_last_of_a_kind(kind, split, place):
    assert last_of(RECORDS, kind, split) == (None if place is None else RECORDS[place])
    assert last_of([], kind, split) is None


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"d" * 40]), max_size=30), st.integers(1, 50))
def test_lines_from_the_end_are_those_from_the_beginning(tmp_path_factory, pieces, part):
    path = tmp_path_factory.getbasetemp() / "lines"
    data = b"".join(pieces)
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_PART", part)
        assert list(lines_backwards(path)) == data.split(b"\n")[:-1][::-1]


def test_no_more_of_a_file_is_read_than_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "lines").write_bytes(b"\xff\n" * 10**6 + b"last\n")
    assert next(lines_backwards(tmp_path / "lines")) == b"last"
    monkeypatch.setattr(records, "_PART", 1)
    assert next(lines_backwards(tmp_path / "lines")) == b"last"


@given(st.lists(st.sampled_from(RECORDS)), st.sets(st.sampled_from(["validation", "test"])), st.booleans())
def test_the_last_figures_are_those_of_the_whole_file(tmp_path_factory, lines, splits, torn):
    path = tmp_path_factory.getbasetemp() / "records.jsonl"
    path.write_bytes(b"".join(map(canonical, lines)) + b'{"kind":"eval' * torn)
    last, found = last_figures(path, sorted(splits))
    assert last == (lines[-1] if lines else None)
    assert found == {
        split: last_of(lines, "evaluation", split) for split in splits if last_of(lines, "evaluation", split)
    }


def test_the_last_figures_need_only_the_end(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"nonsense\n" + b"".join(map(canonical, RECORDS)))
    last, found = last_figures(path, ["validation", "test"])
    assert (last, found) == (RECORDS[4], {"validation": RECORDS[3], "test": RECORDS[4]})
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ValueError, match="Expecting value"):
        last_figures(path, [])

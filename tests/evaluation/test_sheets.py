"""Answers in files: read again as they were, matched by names, and refused where they do not belong together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from residual.errors import DataError, ModelError, UsageError
from residual.evaluation.sheets import Sheet, align, ensemble, read, save

FACTS = {
    "place": "runs/a",
    "step": 4,
    "dataset": "digits",
    "origin": "embedded",
    "split": "test",
    "protocol": "1-crop",
    "words": "1-crop: the image at 8 x 8, single view",
    "views": 1,
    "average": "probabilities",
    "device": "cpu",
    "seconds": 0.25,
    "identity": "abc",
    "temperature": None,
}
NAMES = ("cat", "dög\n", "<owl>")


def sheet(seed=0, **facts):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 3, generator=generator)
    return Sheet(logits, torch.tensor([0, 2, 1, 1, 0]), tuple(f"{n}.png" for n in range(5)), NAMES, {**FACTS, **facts})


def same(one, other):
    return (
        torch.equal(one.logits, other.logits)
        and torch.equal(one.labels, other.labels)
        and (one.images, one.class_names, one.facts) == (other.images, other.class_names, other.facts)
    )


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "NPZ"])
def test_what_was_written_is_read_again(tmp_path, suffix):
    path = tmp_path / f"answers.{suffix}"
    both = [sheet(0), sheet(1, place="runs/b", temperature={"value": 1.5, "images": 7})]
    save(path, both, {"average": "logits", "temperature": {"value": 2.0, "images": 7}})
    found, together = read(path)
    assert all(same(one, other) for one, other in zip(found, both, strict=True))
    assert together == {"average": "logits", "temperature": {"value": 2.0, "images": 7}}
    save(path, both[:1])
    assert read(path)[1] == {}


def test_names_put_rows_and_columns_in_order():
    first, other = sheet(0), sheet(1, place="runs/b")
    rows, columns = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([2, 0, 1])
    shuffled = replace(
        other,
        logits=other.logits[rows][:, columns],
        labels=torch.tensor([columns.tolist().index(k) for k in other.labels[rows].tolist()]),
        images=tuple(other.images[row] for row in rows),
        class_names=tuple(NAMES[column] for column in columns),
    )
    _, found = align([first, shuffled])
    assert same(found, other)
    assert not torch.equal(shuffled.logits, other.logits)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"class_names": ("cat", "dog", "<owl>")}, UsageError, "classes are not the same"),
        ({"class_names": ("cat", "cat", "<owl>")}, UsageError, "classes are not the same"),
        ({"images": ("0.png", "1.png", "2.png", "3.png", "x.png")}, UsageError, "different images"),
        ({"labels": torch.tensor([0, 2, 1, 1, 1])}, DataError, "other labels, for one '4.png'"),
        ({"facts": {**FACTS, "protocol": "10-crop"}}, UsageError, "protocols differ, 1-crop and 10-crop"),
        ({"facts": {**FACTS, "identity": "xyz"}}, UsageError, "different images"),
    ],
    ids=["other", "twice", "images", "labels", "protocol", "identity"],
)
def test_what_does_not_belong_together_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        align([sheet(0), replace(sheet(1), **change)])


def test_an_ensemble_is_the_average_by_hand():
    members = [sheet(0), sheet(1), sheet(2)]
    shares = sum(one.logits.double().softmax(1) for one in members) / 3
    found = ensemble(members, "probabilities")
    torch.testing.assert_close(found.logits.double().softmax(1), shares, rtol=1e-6, atol=1e-7)
    mean = ensemble(members, "logits").logits
    torch.testing.assert_close(mean, (members[0].logits + members[1].logits + members[2].logits) / 3)
    assert not torch.allclose(mean.softmax(1), shares.float(), atol=1e-3)
    assert found.facts["average"] == "probabilities"
    assert found.facts["members"] == ["runs/a"] * 3


def test_logits_that_are_gone_are_not_averaged():
    views = {"views": 10, "protocol": "10-crop"}
    with pytest.raises(UsageError, match="no logits to average"):
        ensemble([sheet(0, **views), sheet(1, **views)], "logits")
    ensemble([sheet(0, **views, average="logits"), sheet(1, **views, average="logits")], "logits")


def altered(**changes):
    """The bytes of a file whose facts or tensors are others."""
    one = sheet()
    facts = {
        "format": 1,
        "kind": "predictions",
        "class_names": list(NAMES),
        "images": list(one.images),
        "members": [one.facts],
        "ensemble": None,
    }
    tensors = {"logits": one.logits.unsqueeze(0), "labels": one.labels}
    for name, value in changes.items():
        (tensors if name in tensors else facts)[name] = value
    return safetensors.torch.save(tensors, metadata={"facts": json.dumps(facts)})


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"kind": "embeddings"},
        {"images": ["x"]},
        {"class_names": [1, 2, 3]},
        {"members": []},
        {"members": [{**FACTS, "views": "1"}]},
        {"members": [{"place": "a"}]},
        {"members": [{**FACTS, "temperature": {"value": -1.0, "images": 3}}]},
        {"ensemble": {"average": "logits"}},
        {"labels": torch.tensor([0, 2, 1, 1, 3])},
        {"labels": torch.tensor([0, -1, 1, 1, 0])},
        {"labels": torch.zeros(5)},
        {"logits": torch.zeros(1, 5, 3, dtype=torch.float64)},
        {"logits": torch.zeros(1, 5, 4)},
        {"logits": torch.full((1, 5, 3), torch.inf)},
    ],
    ids=str,
)
def test_other_contents_are_refused_in_one_line(tmp_path, changes):
    path = tmp_path / "a.safetensors"
    path.write_bytes(altered())
    assert same(read(path)[0][0], sheet())
    path.write_bytes(altered(**changes))
    with pytest.raises(DataError, match="not a file of predictions"):
        read(path)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save(path, [sheet()])
    whole = path.read_bytes()
    for data in (b"", b"PK", whole[: len(whole) // 2], bytes(100), b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(DataError):
            read(path)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / f"gone.{suffix}")
    with pytest.raises(DataError):
        read((tmp_path / f"folder.{suffix}", (tmp_path / f"folder.{suffix}").mkdir())[0])


def test_a_file_that_needs_pickle_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, facts=np.array([{"kind": "predictions"}], dtype=object), logits=np.zeros(1), labels=np.zeros(1))
    with pytest.raises(DataError, match="not a file of predictions"):
        read(path)


def test_a_name_without_format_is_refused_before_anything_is_read(tmp_path):
    for path in ("a.csv", "a", "npz"):
        with pytest.raises(UsageError, match=r"\.safetensors or \.npz"):
            save(tmp_path / path, [sheet()])
        with pytest.raises(UsageError):
            read(tmp_path / path)


def test_answers_that_are_not_finite_are_not_saved(tmp_path):
    whole = sheet()
    logits = whole.logits.clone()
    logits[1, 2] = torch.inf
    with pytest.raises(ModelError, match=r"answers are not finite \(runs/a\)"):
        save(tmp_path / "a.npz", [whole, replace(whole, logits=logits)])
    assert not (tmp_path / "a.npz").exists()

"""A division of labels holds the same share of every class, and is the same whenever it is asked."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from residual.chance import stream
from residual.data.balance import EvenOrder
from residual.data.choosing import drawn
from residual.data.datasets import DataSettings, divide
from residual.data.digits import read_digits
from residual.data.source import Dataset, MemorySource, Subset
from residual.data.splits import FAIR, FIRST, TOGETHER, by_class, divided, grouped, stratified
from tests.conftest import subprocess_environment
from tests.data.photographs import photographs

LABELS = st.lists(st.integers(0, 6), max_size=120).map(lambda values: torch.tensor(values, dtype=torch.int64))
SHARES = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9]))


@given(LABELS, SHARES, st.sampled_from(["a", "b"]))
def test_every_image_is_kept_or_held_and_every_class_shared(labels, share, name):
    kept, held = stratified(labels, share, name)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())
    assert len(held) == round(share * len(labels))
    for label in labels.unique():
        exact = share * int((labels == label).sum())
        assert floor(exact) <= int((labels[held] == label).sum()) <= floor(exact) + 1
    again = stratified(labels.clone(), share, name)
    assert torch.equal(kept, again[0])
    assert torch.equal(held, again[1])


def formerly(labels, share, name, keep):
    """How `stratified` found the images of each class in earlier releases: with a look at all labels for each."""
    classes, counts = labels.unique(return_counts=True)
    exact = [share * int(count) for count in counts]
    most = [max(0, int(count) - keep) for count in counts]
    quota = [min(int(e), m) for e, m in zip(exact, most, strict=True)]
    missing = round(share * len(labels)) - sum(quota)
    spare = [i for i in range(len(exact)) if quota[i] < most[i]]
    for place in sorted(spare, key=lambda i: (quota[i] - exact[i], i))[:missing]:
        quota[place] += 1
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label, places in zip(classes.tolist(), quota, strict=True):
        members = torch.nonzero(labels == label).flatten()
        order = torch.randperm(len(members), generator=stream(0, "split", name, label))
        held[members[order[:places]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


@given(LABELS, SHARES, st.integers(0, 2))
def test_divisions_are_those_of_earlier_releases(labels, share, keep):
    for found, right in zip(stratified(labels, share, "a", keep), formerly(labels, share, "a", keep), strict=True):
        assert torch.equal(found, right)
    members = by_class(labels)
    assert list(members) == labels.unique().tolist()
    for label, found in members.items():
        assert torch.equal(found, torch.nonzero(labels == label).flatten())


def test_many_classes_are_divided_without_a_look_at_all_labels_for_each(monkeypatch):
    seen, nonzero = [], torch.nonzero

    def counted(*arguments, **options):
        seen.append(1)
        return nonzero(*arguments, **options)

    monkeypatch.setattr(torch, "nonzero", counted)
    labels = torch.arange(2000) % 500
    assert len(stratified(labels, 0.25, "a")[1]) == 500
    assert len(EvenOrder(labels, 0).rows(0)) == 2000
    assert len(drawn(labels, 2, 0, replace(dataset(labels), class_names=tuple(map(str, range(500)))))) == 1000
    assert len(seen) < 10


def test_another_name_holds_other_images():
    labels = torch.arange(200) % 4
    assert not torch.equal(stratified(labels, 0.5, "a")[1], stratified(labels, 0.5, "b")[1])


def test_the_held_images_of_a_class_do_not_depend_on_the_other_classes():
    labels = torch.tensor([0, 1] * 50)
    held = stratified(labels, 0.2, "a")[1]
    other = stratified(torch.where(labels == 1, 5, 0), 0.2, "a")[1]
    assert torch.equal(held[labels[held] == 0], other[labels[other] == 0])


def test_places_that_remain_go_to_the_largest_remainder_then_to_the_lower_class():
    labels = torch.tensor([0] * 5 + [1] * 7 + [2] * 5)  # a tenth: 0.5, 0.7 and 0.5 of 2 in all
    assert labels[stratified(labels, 0.1, "a")[1]].tolist() == [0, 1]


def test_places_that_remain_are_drawn_among_equals():
    """Of 40 classes of three images each a tenth is 12 places: not those of the first 12 classes."""
    labels = torch.arange(40).repeat_interleave(3)
    held = [labels[stratified(labels, 0.1, name, division=FAIR)[1]].tolist() for name in "ab"]
    assert all(len(set(found)) == 12 for found in held)
    assert held[0] != held[1]
    assert all(max(found) > 25 for found in held)
    assert labels[stratified(labels, 0.1, "a")[1]].tolist() == list(range(12))
    uneven = torch.tensor([0] * 5 + [1] * 7 + [2] * 5)  # the largest remainder comes first all the same
    assert 1 in uneven[stratified(uneven, 0.1, "a", division=FAIR)[1]].tolist()


def dataset(labels):
    source = MemorySource(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)
    return Dataset("some", source, source, ("a", "b", "c"), 1, (2, 2), {}, "memory")


@given(st.integers(10, 130), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_limit_uses_exactly_so_many_images(limit, validation):
    labels = torch.arange(100) % 3
    found = divide(dataset(labels), DataSettings(limit=limit, validation=validation))
    used = torch.cat([found.training, found.validation])
    assert len(used) == min(limit, 100)
    assert len(used.unique()) == len(used)
    assert len(found.validation) == round(validation * len(used))
    counts = labels[used].bincount(minlength=3)
    assert counts.max() - counts.min() <= 1


def test_the_held_digits_never_change():
    found = divide(read_digits(), DataSettings())
    assert (len(found.training), len(found.validation)) == (1294, 144)
    numbers = found.validation.numpy().astype("<i8").tobytes()
    assert hashlib.sha256(numbers).hexdigest() == "fe343538278d501c9051447b9cecb80f86c92c81ccb41d401984b74f460d61ec"


@pytest.mark.parametrize("chosen", [[], [4], [5, 0, 5]])
def test_a_subset_has_numbers_of_its_own(chosen):
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    subset = Subset(MemorySource(images, torch.arange(6) * 10), torch.tensor(chosen, dtype=torch.int64))
    assert len(subset) == len(chosen)
    assert subset.labels.tolist() == [10 * number for number in chosen]
    assert subset.read(torch.arange(len(chosen)).flip(0)).flatten().tolist() == chosen[::-1]


# Groups

GROUPED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=80)


@given(GROUPED, st.floats(0, 0.5), st.sampled_from([FIRST, FAIR]))
def test_no_group_is_on_both_sides(pairs, share, division):
    labels, groups = torch.tensor(pairs).unbind(1)
    kept, held = grouped(labels, groups, share, "some", division)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(pairs)))
    assert not set(groups[kept].tolist()) & set(groups[held].tolist())
    assert set(labels[kept].tolist()) == set(labels.tolist())
    assert torch.equal(grouped(labels, groups, share, "some", division)[1], held)
    target = share * labels.bincount().double()
    off = (labels[held].bincount(minlength=len(target)) - target).abs().sum()
    assert off <= target.sum() + 1e-9  # at least as near as holding none


def dense(labels, groups, share, name, division):
    """As `grouped`, with a table of all groups and classes."""
    names, member = groups.unique(return_inverse=True)
    classes, label = labels.unique(return_inverse=True)
    table = torch.zeros(len(names), len(classes), dtype=torch.int64)
    table.index_put_((member, label), torch.ones(len(labels), dtype=torch.int64), accumulate=True)
    target, room = share * table.sum(0).double(), table.sum(0) - 1
    order = torch.randperm(len(names), generator=stream(0, "split", name, "groups"))
    if division == FIRST:
        order = order[table[order].sum(1).argsort(descending=True, stable=True)]
    taken, held = torch.zeros(len(classes), dtype=torch.int64), torch.zeros(len(names), dtype=torch.bool)
    for group in order.tolist():
        more = taken + table[group]
        if (more <= room).all() and (more - target).abs().sum() < (taken - target).abs().sum():
            taken, held[group] = more, True
    return torch.nonzero(held[member]).flatten()


@given(GROUPED, st.floats(0, 0.5), st.sampled_from([FIRST, FAIR]))
def test_a_division_by_groups_is_the_one_of_the_whole_table(pairs, share, division):
    labels, groups = torch.tensor(pairs).unbind(1)
    found = grouped(labels, groups, share, "some", division)[1]
    assert torch.equal(found, dense(labels, groups, share, "some", division))


def test_groups_of_every_size_are_held():
    """100 patients, the first few with most of the images: a tenth is not the three largest of them."""
    sizes = torch.cat([torch.full((5,), 60), torch.full((95,), 6)])
    groups = torch.arange(100).repeat_interleave(sizes)
    labels = torch.arange(len(groups)) % 2
    numbers = [len(groups[grouped(labels, groups, 0.1, name, FAIR)[1]].unique()) for name in "abcdef"]
    first = [len(groups[grouped(labels, groups, 0.1, name, FIRST)[1]].unique()) for name in "abcdef"]
    assert max(first) <= 5
    assert min(numbers) >= 5
    assert sum(numbers) > 1.5 * sum(first)
    for name in "abcdef":
        held = len(grouped(labels, groups, 0.1, name, FAIR)[1])
        assert abs(held - 0.1 * len(groups)) <= 6


def test_many_groups_of_many_classes_take_no_memory():
    """20,000 groups of 4,000 classes: a table of them would have 640 MB."""
    resource = pytest.importorskip("resource")
    labels, groups = torch.arange(20_000) % 4_000, torch.arange(20_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(grouped(labels, groups, 0.0, "x")[1]) == 0
    unit = 1 if sys.platform == "darwin" else 1024  # of what the system tells
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 200_000_000


def test_small_groups_give_the_share_asked_for():
    labels, groups = torch.arange(1000) % 5, torch.arange(1000) // 4
    _, held = grouped(labels, groups, 0.2, "x")
    assert (labels[held].bincount(minlength=5) - 40).abs().max() <= 4
    assert not torch.equal(grouped(labels, groups, 0.2, "y")[1], held)


def test_without_groups_nothing_is_new():
    labels = torch.arange(60) % 3
    assert torch.equal(divided(labels, 0.2, "x")[1], stratified(labels, 0.2, "x", keep=1)[1])


def test_two_fresh_processes_divide_alike(tmp_path):
    """A folder, and a table with groups; hashes of names differ between the processes, as those of Python do."""
    root = photographs(tmp_path / "photos", ("cat", "dog"), count=15)
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in root.rglob("*.*"))
    lines = ["path,label,patient", *(f"{path},{path.split('/')[1]},{number % 6}" for number, path in enumerate(paths))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    program = (
        "import json, torch\n"
        "from residual.data.datasets import DataSettings, divide, open_dataset\n"
        "for path, group in (('photos', None), ('table.csv', 'patient')):\n"
        "    settings = DataSettings(dataset='folder', path=path, group=group, test=0.2, validation=0.2)\n"
        "    dataset = open_dataset(settings)\n"
        "    division = divide(dataset, settings)\n"
        "    parts = [(dataset.train, division.training), (dataset.train, division.validation),\n"
        "             (dataset.test, torch.arange(len(dataset.test)))]\n"
        "    print(json.dumps([source.names(numbers) for source, numbers in parts]))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=subprocess_environment({"PYTHONHASHSEED": str(seed)}),
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    found = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert found[0] == found[1]
    patient = {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}
    sides = [{patient[name.removeprefix("./")] for name in part} for part in json.loads(found[0].splitlines()[1])]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == 6


@given(GROUPED, st.floats(0, 0.5), st.booleans())
def test_copies_of_an_image_are_on_one_side(pairs, share, groups_too):
    """Also where they lie in several classes, and with groups, of which none is on both sides then."""
    labels = torch.tensor([label for label, _ in pairs], dtype=torch.int64)
    digests = [str(number) for _, number in pairs]
    groups = torch.arange(len(pairs)) // 2 if groups_too else None
    kept, held = divided(labels, share, "some", groups, TOGETHER, digests)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(pairs)))
    assert not {digests[i] for i in kept.tolist()} & {digests[i] for i in held.tolist()}
    if groups is not None:
        assert not {i // 2 for i in kept.tolist()} & {i // 2 for i in held.tolist()}
    assert set(labels.tolist()) == set(labels[kept].tolist()), "every class has an image to learn"
    assert len(held) <= round(share * len(pairs)) + (len(pairs) if groups_too else 0)


@given(LABELS, SHARES)
def test_without_copies_nothing_is_divided_otherwise(labels, share):
    digests = [str(number) for number in range(len(labels))]
    for new, before in zip(
        divided(labels, share, "a", None, TOGETHER, digests), divided(labels, share, "a", None, FAIR), strict=True
    ):
        assert torch.equal(new, before)


def test_a_few_copies_cost_no_held_image():
    labels = torch.arange(200) % 2
    digests = [str(number if number % 20 else number // 40) for number in range(200)]  # five pairs, within a class
    held = divided(labels, 0.1, "a", None, TOGETHER, digests)[1]
    assert labels[held].bincount().tolist() == [10, 10]
    alone = divided(labels, 0.1, "a", None, FAIR)[1]
    assert len(set(held.tolist()) & set(alone.tolist())) >= 15, "most are those that are held without copies"

"""Stratified division of a set of labels: deterministic, the same for every run seed.

The validation images are chosen by the data alone, so that runs with different seeds are judged on
the same images and none of them is ever trained on. `FAIR` divisions draw what `FIRST` ones, which earlier releases
made and their runs keep, left to an order: which classes get the places that are left over, and which groups are held.
`TOGETHER` divisions have besides all copies of an image, bit for bit, on one side: else it is learnt and judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from residual.chance import stream

FIRST, FAIR, TOGETHER = 1, 2, 3


def by_class(labels: Tensor) -> dict[int, Tensor]:
    """The numbers of the images of each class that has any, int64, sorted; the classes sorted as well."""
    order = labels.argsort(stable=True)
    classes, counts = labels[order].unique_consecutive(return_counts=True)
    return dict(zip(classes.tolist(), order.split(counts.tolist()), strict=True))


def copies(digests: Sequence[str]) -> Tensor | None:
    """int64 N: equal numbers for images of equal content; None where all differ."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(digest, len(numbers)) for digest in digests]
    return torch.tensor(found) if len(numbers) < len(found) else None


def stratified(
    labels: Tensor, share: float, name: str, keep: int = 0, division: int = FIRST, alike: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the numbers 0..N-1 into (kept, held), each sorted, `share` of every class held.

    The number held is round(share * N) in all; classes whose share is not whole receive the
    remaining places by largest remainder, in a drawn order where these are equal (the lower class first in a
    `FIRST` division). Of a class with fewer than `keep` images to spare, fewer are held.

    Args:
        labels: int64 N.
        share: in [0, 1).
        name: the address of the draws; the same labels and name give the same division.
        keep: how many images of every class are kept at least, where it has so many.
        alike: what `copies` gives: such are held together, if all of them have this class and places are left.
    """
    classes = by_class(labels)
    exact = [share * len(members) for members in classes.values()]
    most = [max(0, len(members) - keep) for members in classes.values()]
    quota = [min(int(e), m) for e, m in zip(exact, most, strict=True)]
    missing = round(share * len(labels)) - sum(quota)
    spare = [i for i in range(len(exact)) if quota[i] < most[i]]
    turn = list(range(len(exact)))
    if division != FIRST:
        turn = torch.randperm(len(exact), generator=stream(0, "split", name, "ties")).tolist()
    for place in sorted(spare, key=lambda i: (quota[i] - exact[i], turn[i]))[:missing]:
        quota[place] += 1
    held = torch.zeros(len(labels), dtype=torch.bool)
    sizes = None if alike is None else alike.bincount()[alike]  # of the set of each image, counted once for all classes
    for (label, members), places in zip(classes.items(), quota, strict=True):
        order = torch.randperm(len(members), generator=stream(0, "split", name, label))
        drawn = members[order]
        held[drawn[:places] if alike is None or sizes is None else _whole(drawn, places, alike, sizes)] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def _whole(drawn: Tensor, places: int, alike: Tensor, sizes: Tensor) -> Tensor:
    """The first of the images, as many as there are places; copies come together or not at all."""
    sets: dict[int, list[int]] = {}
    for image, number in zip(drawn.tolist(), alike[drawn].tolist(), strict=True):
        sets.setdefault(number, []).append(image)
    size_of = dict(zip(alike[drawn].tolist(), sizes[drawn].tolist(), strict=True))
    chosen: list[int] = []
    for number, images in sets.items():
        if len(images) == size_of[number] and len(chosen) + len(images) <= places:
            chosen += images
    return torch.tensor(chosen, dtype=torch.int64)


def divided(
    labels: Tensor,
    share: float,
    name: str,
    groups: Tensor | None = None,
    division: int = FIRST,
    digests: Sequence[str] = (),
) -> tuple[Tensor, Tensor]:
    """As `stratified` with an image of every class kept; where images have groups, each is on one side as a whole.

    Args:
        digests: of the content of each image, if known.
    """
    alike = copies(digests) if division >= TOGETHER else None
    if groups is None:
        return stratified(labels, share, name, keep=1, division=division, alike=alike)
    return grouped(labels, groups if alike is None else merged(groups, alike), share, name, division)


def merged(groups: Tensor, alike: Tensor) -> Tensor:
    """int64 N: groups that have copies of one image in common are one."""
    found = torch.arange(len(groups))
    while True:
        before = found
        for numbers in (groups, alike):
            member = numbers.unique(return_inverse=True)[1]
            least = torch.full((len(groups),), len(groups)).scatter_reduce(0, member, found, "amin")
            found = least[member]
        if torch.equal(found, before):
            return found


def grouped(labels: Tensor, groups: Tensor, share: float, name: str, division: int = FIRST) -> tuple[Tensor, Tensor]:
    """Divide the numbers 0..N-1 into (kept, held), each sorted; no group is on both sides.

    Groups are taken in a drawn order, the largest first among them in a `FIRST` division, which holds few of them;
    one is held if that brings the numbers held of the classes nearer to `share` of each (sum of absolute
    differences) and leaves every class an image.

    Args:
        labels, groups: int64 N.
    """
    names, member = groups.unique(return_inverse=True)
    classes, label = labels.unique(return_inverse=True)
    target, room = share * label.bincount().double(), label.bincount() - 1
    # Of each group the classes it has and how many images of each: a table of groups and classes would mostly hold 0.
    keys, counts = (member * len(classes) + label).unique(return_counts=True)
    kinds, ends = keys % len(classes), (keys // len(classes)).bincount().cumsum(0).tolist()
    order = torch.randperm(len(names), generator=stream(0, "split", name, "groups"))
    if division == FIRST:
        order = order[member.bincount()[order].argsort(descending=True, stable=True)]
    taken, held = torch.zeros(len(classes), dtype=torch.int64), torch.zeros(len(names), dtype=torch.bool)
    distance = (taken - target).abs().sum()
    for group in order.tolist():
        own = slice(ends[group - 1] if group else 0, ends[group])
        more = taken.index_add(0, kinds[own], counts[own])
        if (more <= room).all() and (nearer := (more - target).abs().sum()) < distance:
            taken, distance, held[group] = more, nearer, True
    chosen = held[member]
    return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()

"""Stratified division of a set of labels: deterministic, the same for every run seed.

The validation images are chosen by the data alone, so that runs with different seeds are judged on
the same images and none of them is ever trained on. `FAIR` divisions draw what `FIRST` ones, which earlier releases
made and their runs keep, left to an order: which classes get the places that are left over, and which groups are held.
"""

from __future__ import annotations

import torch
from torch import Tensor

from residual.chance import stream

FIRST, FAIR = 1, 2


def by_class(labels: Tensor) -> dict[int, Tensor]:
    """The numbers of the images of each class that has any, int64, sorted; the classes sorted as well."""
    order = labels.argsort(stable=True)
    classes, counts = labels[order].unique_consecutive(return_counts=True)
    return dict(zip(classes.tolist(), order.split(counts.tolist()), strict=True))


def stratified(labels: Tensor, share: float, name: str, keep: int = 0, division: int = FIRST) -> tuple[Tensor, Tensor]:
    """Divide the numbers 0..N-1 into (kept, held), each sorted, `share` of every class held.

    The number held is round(share * N) in all; classes whose share is not whole receive the
    remaining places by largest remainder, in a drawn order where these are equal (the lower class first in a
    `FIRST` division). Of a class with fewer than `keep` images to spare, fewer are held.

    Args:
        labels: int64 N.
        share: in [0, 1).
        name: the address of the draws; the same labels and name give the same division.
        keep: how many images of every class are kept at least, where it has so many.
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
    for (label, members), places in zip(classes.items(), quota, strict=True):
        order = torch.randperm(len(members), generator=stream(0, "split", name, label))
        held[members[order[:places]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def divided(
    labels: Tensor, share: float, name: str, groups: Tensor | None = None, division: int = FIRST
) -> tuple[Tensor, Tensor]:
    """As `stratified` with an image of every class kept; where images have groups, each is on one side as a whole."""
    if groups is None:
        return stratified(labels, share, name, keep=1, division=division)
    return grouped(labels, groups, share, name, division)


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

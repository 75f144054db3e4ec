"""Counts and sums over images, divided once at the end.

logits_NK float, labels_N int64 in [0, K). A top-k hit means that fewer than k classes score strictly
higher than the true one, or equally high with a smaller number; so ties cannot flatter a network that
answers the same for every class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

KS = (1, 3, 5)


def rank_of_truth(logits: Tensor, labels: Tensor) -> Tensor:
    """int64 N: how many classes stand before the true one; 0 is a top-1 hit. Answers that hold a not-a-number anywhere
    name no class, and count as the worst."""
    truth = logits.gather(1, labels.unsqueeze(1))
    classes = torch.arange(logits.shape[1], device=logits.device)
    before = (logits > truth) | ((logits == truth) & (classes < labels.unsqueeze(1)))
    worst = torch.full_like(labels, max(logits.shape[1], *KS))  # no hit even where the classes are few
    return torch.where(logits.isnan().any(1), worst, before.sum(1))


def sum_type(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def balanced(confusion: Tensor) -> float:
    """The mean, over the classes that have images, of the share of them that is recognised.

    confusion_KK int64: rows are true classes, columns predicted ones.
    """
    images = confusion.sum(1)
    there = images > 0
    return float((confusion.diagonal()[there].double() / images[there]).mean())


@dataclass
class Tally:
    """Running sums on the device; nothing is copied to the host until `scores` is asked."""

    loss: Tensor
    hits: Tensor
    images: int = 0

    @staticmethod
    def empty(device: torch.device) -> Tally:
        return Tally(
            torch.zeros((), dtype=sum_type(device), device=device),
            torch.zeros(len(KS), dtype=torch.int64, device=device),
        )

    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor | None = None) -> None:
        """Count a batch; `loss_sum` is its summed loss, plain cross-entropy unless given."""
        if loss_sum is None:
            loss_sum = cross_entropy(logits.float(), labels, reduction="sum")
        ranks = rank_of_truth(logits, labels)
        self.loss += loss_sum.to(self.loss.dtype)
        self.hits += torch.stack([(ranks < k).sum() for k in KS])
        self.images += len(labels)

    @staticmethod
    def of(logits: Tensor, labels: Tensor, loss_sum: Tensor | None = None) -> Tally:
        """The counts of one batch."""
        tally = Tally.empty(logits.device)
        tally.add(logits, labels, loss_sum)
        return tally

    def join(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.loss += other.loss
        self.hits += other.hits
        self.images += other.images

    def scores(self) -> dict[str, float]:
        """loss (nats per image) and top1, top3, top5 as shares in [0, 1]."""
        count = max(1, self.images)
        hits = self.hits.tolist()
        return {"loss": float(self.loss) / count} | {f"top{k}": hits[i] / count for i, k in enumerate(KS)}

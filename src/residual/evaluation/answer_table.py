"""Answers as a table for a spreadsheet or pandas: a row for every image and everything that answered to it.

It is to be looked at; what is judged again (`from_files`) is an .npz or .safetensors file, which has all logits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from residual.data.tables import begins_with
from residual.evaluation.scores import rank_of_truth
from residual.evaluation.sheets import Sheet
from residual.evaluation.statistics import answers_of
from residual.files import replace_file

SUFFIX: Final = ".csv"
COLUMNS: Final = (
    "file", "truth", "answer", "correct", "probability", "probability_of_truth", "rank_of_truth", "loss", "by",
)  # fmt: skip


def write_answers(path: Path, sheets: Sequence[Sheet]) -> None:
    """Write the rows of aligned sheets, one sheet after the other; whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(row for sheet in sheets for row in rows(sheet))])
    replace_file(path, text.getvalue().encode(errors="backslashreplace"))


def rows(sheet: Sheet) -> Iterator[Iterable[object]]:
    """A row for each image in their order: shares in [0, 1], loss in nats, the rank of the truth from 1."""
    logs = sheet.logits.double().log_softmax(1)
    answers = answers_of(sheet.logits, sheet.labels)
    ranks = rank_of_truth(sheet.logits, sheet.labels) + 1
    own, truth = (logs.gather(1, which.unsqueeze(1)).squeeze(1) for which in (answers, sheet.labels))
    names = sheet.class_names
    values = (answers, sheet.labels, own.exp(), truth.exp(), ranks, -truth)
    for image, answer, label, share, of_truth, rank, loss in zip(
        sheet.images, *(value.tolist() for value in values), strict=True
    ):
        correct = "true" if rank == 1 else "false"
        figures = (f"{share:.6f}", f"{of_truth:.6f}", rank, f"{loss:.6f}")
        yield (image, names[label], names[answer], correct, *figures, sheet.place)


def is_answers(path: Path) -> bool:
    """Whether a file begins as such a table."""
    return begins_with(path, ",".join(COLUMNS) + "\n")

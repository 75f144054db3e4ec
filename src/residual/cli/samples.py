"""`residual samples`."""

from __future__ import annotations

from residual.cli.text import Whole


def samples(folder: str, /, *, count: Whole = 12) -> int:
    """Write some test images of the embedded digits as PNG files, to try `residual predict` on.

    Parameters
    ----------
    folder
        Where to; files of the same name are replaced.
    count
        How many, spread over the classes.
    """
    import io
    import os
    from pathlib import Path

    from PIL import Image

    from residual.data.digits import read_digits
    from residual.errors import UsageError
    from residual.files import replace_file

    test = read_digits().test
    if not 1 <= count <= len(test):
        raise UsageError(f"count is {count}", "--count", f"choose a number between 1 and {len(test)}")
    labels = test.labels.tolist()
    seen: dict[int, int] = {}
    rounds = []
    for number, label in enumerate(labels):
        rounds.append((seen.get(label, 0), label, number))
        seen[label] = seen.get(label, 0) + 1
    import torch

    for turn, label, number in sorted(rounds)[:count]:
        pixels = test.read(torch.tensor([number]))[0, 0].numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        replace_file(Path(os.path.expanduser(folder)) / f"digit-{label}-{turn}.png", buffer.getvalue())
    print(f"{count} images in {folder}")
    return 0

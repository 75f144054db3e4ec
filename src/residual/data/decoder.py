"""A process that decodes images for `decoders`, one at a time: `python -m residual.data.decoder`.

An order is a line of JSON: file, offset, size, SHA-256, channels, (H, W), geometry, crop. The answer is a byte, 1 with
the C x H x W bytes of the image behind it, or 0 where it could not be made; then whoever asked finds out why. The first
byte of all says that the process is ready. It ends when its orders end, so no process is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from residual.data.encoded import Encoded, opened, read_part
from residual.data.geometry import Geometry
from residual.data.images import cropped, fitted
from residual.data.windows import Window
from residual.errors import DataError
from residual.files import digest


def make(order: list[Any]) -> bytes:
    """The pixels that an order asks for, planes first.

    Raises:
        DataError, OSError, MemoryError: they cannot be had.
    """
    file, offset, size, sha256, channels, (height, width), way, crop = order
    geometry = Geometry(*way)
    data = read_part(Path(file), offset, size)
    if digest(data) != sha256:
        raise DataError("changed", file)
    with opened(data, file) as image:
        picture = Encoded(image)
        if crop is None:
            made = fitted(picture, channels, (height, width), file, geometry)
        else:
            kind, low, high, draws = crop
            window = Window(kind, low, high, tuple(draws))
            made = cropped(picture, channels, (height, width), window, geometry.interpolation)
        return made.numpy().tobytes()


def main() -> None:
    # Whoever asks decides when it is over; a signal to all of them must not end this one in the middle of an image.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        answers.write(b"\2")
        answers.flush()
        for line in sys.stdin.buffer:
            try:
                made = make(json.loads(line))
            except (DataError, OSError, MemoryError):
                made = b""
            answers.write(b"\1" + made if made else b"\0")
            answers.flush()
    except BrokenPipeError:
        os._exit(0)  # nobody is there any more


if __name__ == "__main__":
    main()

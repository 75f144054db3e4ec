"""SIGINT and SIGTERM set a flag that the loop reads at every step; a second one ends the process at once.

Ending at once is harmless: whatever is on disk under a final name is whole.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from residual.errors import Interrupted


class Signals:
    """A context in which the first signal is remembered in `number`."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.number is not None

    def heed(self) -> None:
        """Stop what comes before step 0, where there is nothing to save yet.

        Raises:
            Interrupted: a signal came.
        """
        if self.number is not None:
            name = signal.Signals(self.number).name
            what = f"stopped by {name} while the images were checked"
            raise Interrupted(what, "data", "give the command again, it goes on where it was", self.number)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(128 + number)
        self.number = number

    def __enter__(self) -> Signals:
        # Python lets only the main thread receive signals; elsewhere the caller keeps its own handling.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

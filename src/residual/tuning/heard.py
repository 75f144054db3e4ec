"""The signals that are heeded between trainings, and those that a training heard but was too near its end to obey."""

from __future__ import annotations

import signal
import socket
import threading

from residual.training.signals import HEEDED, Signals


class Heard(Signals):
    """Like `Signals`, and also true where a `Signals` within it heard the signal and is gone."""

    def __enter__(self) -> Heard:
        super().__enter__()
        self._ear: socket.socket | None = None
        if threading.current_thread() is threading.main_thread():
            self._ear, self._mouth = socket.socketpair()
            self._ear.setblocking(False)
            self._mouth.setblocking(False)
            # The interpreter itself writes the number of each signal that some handler takes.
            self._descriptor = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        return self

    def __bool__(self) -> bool:
        if self._ear is not None:
            try:
                numbers = set(self._ear.recv(4096)) & {int(number) for number in HEEDED}
            except BlockingIOError:
                numbers = set()
            if numbers and self.number is None:
                self.number = min(numbers)
        return self.number is not None

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        if self._ear is not None:
            signal.set_wakeup_fd(self._descriptor)
            self._ear.close()
            self._mouth.close()
            self._ear = None

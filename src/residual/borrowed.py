"""What torch is told in this process and keeps beyond a call: put back for the program that called.

Threads, the rounding of float32 on a GPU, determinism, the current GPU, the default device. Not put back are memory
that glibc keeps and CUBLAS_WORKSPACE_CONFIG, which CUDA reads once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from residual.device import at_home, forked
from residual.errors import UsageError

_lock = threading.Lock()
_training = threading.RLock()
_borrowers = 0
_found: list[Callable[[], None]] = []


@contextmanager
def borrowed() -> Iterator[None]:
    """Give torch's settings back as they were. Where calls overlap, in threads, the last to end gives them back."""
    global _borrowers  # noqa: PLW0603  # of the process, as the settings are
    with _lock:
        if not _borrowers:
            _found[:] = _settings()
        _borrowers += 1
    try:
        with at_home():
            yield
    finally:
        with _lock:
            _borrowers -= 1
            if not _borrowers:
                for restore in _found:
                    restore()
                _found.clear()


@contextmanager
def borrowed_alone(what: str) -> Iterator[None]:
    """The same for a training: its chance goes through torch's generators, of which a process has one set.

    Raises:
        UsageError: another thread of this process trains.
    """
    if not _training.acquire(blocking=False):
        remedy = "train one after the other, or in processes of their own"
        raise UsageError("another thread of this process is training", what, remedy)
    try:
        with borrowed():
            yield
    finally:
        _training.release()


def _settings() -> list[Callable[[], None]]:
    """What puts each of the settings back."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    told = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def number() -> None:
        if torch.get_num_threads() != threads and not forked():  # there more than one would hang
            torch.set_num_threads(threads)

    def determinism() -> None:
        now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        if now != told:  # to tell torch imports its compiler
            torch.use_deterministic_algorithms(told[0], warn_only=told[1])

    found: list[Callable[[], None]] = [number, determinism]
    # The older name first: it is the wider one.
    owners: list[tuple[Any, str]] = [(cudnn, "allow_tf32"), (cudnn, "benchmark")]
    owners += [(getattr(cudnn, part, None), "fp32_precision") for part in ("conv", "rnn")]
    found += [put for owner, name in owners if (put := _put_back(owner, name)) is not None]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        current = torch.cuda.current_device()
        found.append(lambda: torch.cuda.set_device(current))
    return found


def _put_back(owner: Any, name: str) -> Callable[[], None] | None:
    """What sets a setting as it is now; None where there is none, or torch says only what is newer of it."""
    before = _now(owner, name)
    if before is None:
        return None

    def restore() -> None:
        if _now(owner, name) != before:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a newer name for it
                setattr(owner, name, before)

    return restore


def _now(owner: Any, name: str) -> Any:
    with warnings.catch_warnings(), suppress(RuntimeError):  # the older name has no answer where the newer ones differ
        warnings.simplefilter("ignore")
        return getattr(owner, name, None)
    return None

"""The few failures a user can meet, and `check`, which reports all faults of one input at once.

Every failure is one line, `<what> (<where>): <what to do>`, and carries the exit code of the command
line. Anything else that escapes is a fault of the program itself.
"""

from __future__ import annotations

import difflib
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import NamedTuple

log = logging.getLogger("residual")


class ResidualError(Exception):
    """One line for the user: what happened, where, and what to do about it."""

    exit_code = 1
    of_all = False
    """Whether each of several processes raises it alike, so that no single one is to be named."""

    def __init__(self, what: str, where: object = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        super().__init__(what, self.where, remedy)

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        remedy = f": {self.remedy}" if self.remedy else ""
        return " ".join(f"{self.what}{where}{remedy}".split())


class UsageError(ResidualError):
    """A wrong option, recipe or combination of them."""

    exit_code = 2


class DataError(ResidualError):
    """Images or labels that are absent, damaged or of the wrong form."""

    exit_code = 3


class ModelError(ResidualError):
    """A checkpoint or model that is absent, damaged or does not fit."""

    exit_code = 4


class StorageError(ResidualError):
    """The disk refused: full, read-only, gone, or in use by another process."""

    exit_code = 5


class InUse(StorageError):
    """Another process is at work there, which `where` names if it is known."""


class EnvironmentFault(ResidualError):
    """The machine lacks what the run needs: a device, a version, memory."""

    exit_code = 6


class OutOfMemory(EnvironmentFault):
    """The memory does not hold the smallest part into which the work can be cut."""


class NonFiniteError(ResidualError):
    """The loss or a gradient became infinite or not a number."""

    exit_code = 7
    of_all = True


class Interrupted(ResidualError):
    """SIGINT, SIGTERM or SIGHUP was obeyed: the state is saved; exit code 128 + signal."""

    of_all = True

    def __init__(self, what: str, where: object, remedy: str, signal_number: int) -> None:
        super().__init__(what, where, remedy)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.what, self.where, self.remedy, self.exit_code - 128)


class Elsewhere(ResidualError):
    """What ended another process of the same run, and so this one: told in its words, with its exit code."""

    of_all = True

    def __init__(self, what: str, where: object, remedy: str, exit_code: int) -> None:
        super().__init__(what, where, remedy)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.what, self.where, self.remedy, self.exit_code)


_NO_MEMORY = (
    *("allocate memory", "out of memory", "_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"),
    *("Storage size calculation overflowed", "could not create a primitive", "unable to find an engine"),
)


def lacks_memory(error: BaseException) -> bool:
    """Whether this is Python's own error, or what torch raises on a CPU or a GPU, where memory does not suffice.

    The words of another process of the run count as well.
    """
    told = isinstance(error, RuntimeError | Elsewhere) and any(sign in str(error) for sign in _NO_MEMORY)
    return told or isinstance(error, MemoryError | OutOfMemory)


class Fault(NamedTuple):
    """One thing wrong with an input: `subject` is `value`; `rule`; `remedy`. A group of settings (...) has no value."""

    subject: str
    value: object
    rule: str
    remedy: str = ""

    def __str__(self) -> str:
        tail = f"; {self.remedy}" if self.remedy else ""
        value = "" if self.value is ... else f" is {self.value!r}"
        return f"{self.subject}{value}: {self.rule}{tail}"


_RULES = {
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list, as in [1, 2]"),
    "string_type": "must be a word",
}


def rule_of(kind: str, message: str) -> str:
    """A rule that a value breaks, from the kind and the message of an error of pydantic."""
    bare = message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return _RULES.get(kind, bare.replace("should ", "must ", 1))


def check(what: str, faults: Iterable[Fault], where: object = "") -> None:
    """Raise one `UsageError` that names every fault, or return when there is none."""
    found = list(faults)
    if found:
        raise UsageError(what, where, ". ".join(str(fault) for fault in found))


def is_whole(value: object) -> bool:
    """Whether this is a whole number, Python's or numpy's, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_top_k(top_k: object) -> None:
    """Refuse what is no number of classes.

    Raises:
        UsageError: it is none.
    """
    if not is_whole(top_k):
        raise UsageError(f"top_k is {top_k!r:.40}", "--top-k", "it must be a whole number, 1 or above")
    if int(top_k) < 1:  # type: ignore[call-overload]
        raise UsageError(f"top-k is {top_k}", "--top-k", "it must be at least 1")


def argument(path: str | os.PathLike[str]) -> str:
    """A path as it must be typed after a command: quoted where a shell would cut it, never taken for an option."""
    text = os.fspath(path)
    return quoted(f"./{text}" if text.startswith("-") else text)


def quoted(text: str) -> str:
    """A word as the shell of this system takes it; in a command that is stored, and read back, stands `shlex.quote`."""
    if sys.platform != "win32":
        return shlex.quote(text)
    from subprocess import list2cmdline  # of Windows alone, and slow to import

    typed = list2cmdline([text])
    return f'"{text}"' if typed == text and set(text) & set("&|<>^();,'") else typed


def _common(one: str, other: str) -> int:
    """How many letters two words begin with alike."""
    unlike = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(unlike, min(len(one), len(other)))


def nearest(name: str, known: Sequence[str], also: Sequence[str] = ()) -> str:
    """`did you mean ...?` with the nearest of the known names, or the list of all of them.

    Args:
        also: names that may be meant and are never listed, such as those of files.
    """
    spelt = {one.lower(): one for one in (*also, *known)}
    close = difflib.get_close_matches(name.lower(), spelt, n=3, cutoff=0.5)
    almost = difflib.get_close_matches(name.lower(), close, n=3, cutoff=0.85)  # a slip of the finger
    # Of several that are as near, what begins alike is meant: resnet-2O is resnet-20 rather than resnet-32.
    close = sorted(almost or close, key=lambda one: -_common(name.lower(), one))
    if close := [spelt[one] for one in close]:
        return f"did you mean {' or '.join(close)}?"
    return f"choose one of {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"

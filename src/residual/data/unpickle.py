"""The plain part of pickle protocol 2, read as data: nothing in a file can name, make or call anything.

The *Python versions* of CIFAR are pickles. Python's own unpickler calls what a file tells it to call; this
reader has no means to call. It knows dictionaries, lists, tuples, strings (as bytes), small integers, True,
False, None, and uint8 arrays of numpy, which come back as `Array`. Every other operation, and every global
but the three with which numpy writes an array, is refused by name (opcodes as in Python's `pickletools`).

Memory is bounded by the size of the file: every operation makes at most one container or one view of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from residual.errors import DataError

_REMEDY = "take the file again from its official source"
_MARK = object()


@dataclass
class Array:
    """A uint8 array as numpy pickles it: its shape, its bytes, and whether columns come first (Fortran's order)."""

    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: memoryview = field(default_factory=lambda: memoryview(b""))


class _Refused(Exception):
    """Why a file is not read."""


class _Global(str):
    """A name that stands for itself; nothing is imported."""


class _Dtype:
    """numpy's uint8, the only kind of number that is read."""


_RECONSTRUCT = _Global("numpy.core.multiarray _reconstruct")
_RECONSTRUCT_NEW = _Global("numpy._core.multiarray _reconstruct")  # as numpy 2 names it
_NDARRAY, _DTYPE = _Global("numpy ndarray"), _Global("numpy dtype")
_KNOWN = {str(name): name for name in (_RECONSTRUCT, _RECONSTRUCT_NEW, _NDARRAY, _DTYPE)}


def read_pickle(data: bytes, where: object) -> Any:
    """The value in a pickle of plain containers and uint8 arrays; strings are memoryviews of bytes or bytes.

    Raises:
        DataError: the file holds anything else, or is damaged; says what and at which byte.
    """
    reader = _Reader(data)
    try:
        return reader.read()
    except _Refused as error:
        reason = str(error)
    except (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError):
        reason = "it is damaged"
    raise DataError(f"not a plain pickle, {reason} at byte {reader.place:,}", where, _REMEDY)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = memoryview(data), 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        while True:
            code = self.number("<B")
            if code == ord("."):
                (value,) = self.stack
                if value is _MARK:
                    raise _Refused("its value is absent")
                return value
            operation = _OPERATIONS.get(code)
            if operation is None:
                self.place -= 1
                raise _Refused(f"operation {bytes([code])!r} is not read")
            operation(self)

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return int(value)

    def take(self, length: int) -> memoryview:
        found = self.data[self.place : self.place + length]
        if len(found) != length:
            raise _Refused("it ends within a string")
        self.place += length
        return found

    def string(self, form: str) -> bytes | memoryview:
        """Short strings are bytes, so that they can be keys; long ones a view of the file."""
        found = self.take(self.number(form))
        return bytes(found) if len(found) < 256 else found

    def line(self) -> bytes:
        end = self.data[self.place : self.place + 100].tobytes().find(b"\n")
        if end < 0:
            raise _Refused("a name has no end")
        found = bytes(self.take(end))
        self.place += 1
        return found

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise _Refused("a mark is absent")

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise _Refused("something is appended to what is no list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise _Refused("something is set in what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (bytes, int):
                raise _Refused("a key is neither a word nor a number")
            target[key] = value

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count or any(value is _MARK for value in self.stack[-count:]):
            raise _Refused("a value is absent")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def named(self) -> None:
        start = self.place - 1
        name = f"{self.line().decode('ascii', 'replace')} {self.line().decode('ascii', 'replace')}"
        known = _KNOWN.get(name)
        if known is None:
            self.place = start
            raise _Refused(f"it names {name.replace(' ', '.')!r}, which is not read,")
        self.stack.append(known)

    def reduce(self) -> None:
        """What numpy's two calls would make: an empty array, or the kind of its numbers."""
        maker, arguments = self.pop(2)
        match maker, arguments:
            case _Global(), (_Global() as kind, (0,), b"b") if kind == _NDARRAY and maker.endswith("_reconstruct"):
                self.stack.append(Array())
            case _Global(), (b"u1", 0 | False, 1 | True) if maker == _DTYPE:
                self.stack.append(_Dtype())
            case _:
                raise _Refused("it asks for another call than numpy's for an array of bytes")

    def build(self) -> None:
        """The state numpy gives to what it made: version, shape, kind, order, bytes."""
        target, state = self.pop(2)
        match target, state:
            case _Dtype(), (3, b"|", None, None, None, -1, -1, 0):
                pass
            case Array(), (1, tuple(shape), _Dtype(), bool(fortran), (bytes() | memoryview()) as data) if all(
                type(length) is int for length in shape
            ):
                target.shape, target.fortran, target.data = shape, fortran, memoryview(data)
            case _:
                raise _Refused("an array is not of plain bytes")
        self.stack.append(target)

    def get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    def put(self, number: int) -> None:
        if self.stack[-1] is _MARK:
            raise _Refused("a value is absent")
        self.memo[number] = self.stack[-1]

    def protocol(self) -> None:
        version = self.number("<B")
        if version != 2:
            raise _Refused(f"protocol {version} is not read")


def _pushes(make: Callable[[_Reader], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(make(reader))


_OPERATIONS: dict[int, Callable[[_Reader], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": _Reader.protocol,
        "(": _pushes(lambda r: _MARK),
        "}": _pushes(lambda r: {}),
        "]": _pushes(lambda r: []),
        ")": _pushes(lambda r: ()),
        "N": _pushes(lambda r: None),
        "\x88": _pushes(lambda r: True),
        "\x89": _pushes(lambda r: False),
        "K": _pushes(lambda r: r.number("<B")),
        "M": _pushes(lambda r: r.number("<H")),
        "J": _pushes(lambda r: r.number("<i")),
        "U": _pushes(lambda r: r.string("<B")),
        "T": _pushes(lambda r: r.string("<i")),
        "t": _pushes(lambda r: tuple(r.since_mark())),
        "\x85": _pushes(lambda r: tuple(r.pop(1))),
        "\x86": _pushes(lambda r: tuple(r.pop(2))),
        "\x87": _pushes(lambda r: tuple(r.pop(3))),
        "a": lambda r: r.append(r.pop(1)),
        "e": lambda r: r.append(r.since_mark()),
        "s": lambda r: r.set_items(r.pop(2)),
        "u": lambda r: r.set_items(r.since_mark()),
        "q": lambda r: r.put(r.number("<B")),
        "r": lambda r: r.put(r.number("<I")),
        "h": lambda r: r.get(r.number("<B")),
        "j": lambda r: r.get(r.number("<I")),
        "c": _Reader.named,
        "R": _Reader.reduce,
        "b": _Reader.build,
    }.items()
}

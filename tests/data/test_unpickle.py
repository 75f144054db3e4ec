"""Pickles of plain containers and byte arrays are read as Python reads them; of everything else nothing is done."""

import contextlib
import os
import pickle
import pickletools
import random
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residual.data.unpickle import Array, read_pickle
from residual.errors import DataError
from tests.data.official_layout import pickled

ATOMS = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.binary(max_size=300)
KEYS = st.binary(max_size=20) | st.integers(-(2**31), 2**31 - 1)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple),
)


def plain(value):
    """Views of bytes as bytes."""
    match value:
        case memoryview():
            return bytes(value)
        case list() | tuple():
            return type(value)(plain(item) for item in value)
        case dict():
            return {key: plain(item) for key, item in value.items()}
    return value


@settings(max_examples=50)
@given(VALUES)
def test_plain_values_are_read_as_python_reads_them(value):
    data = pickled(value)
    assert pickle.loads(data, encoding="bytes") == value
    assert plain(read_pickle(data, "here")) == value


@pytest.mark.parametrize("fortran", [False, True])
def test_an_array_is_read_as_numpy_reads_it(fortran):
    array = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    data = pickled({b"data": array}, fortran)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 2.4 and newer: a number where these old files give no truth value
        assert np.array_equal(pickle.loads(data, encoding="bytes")[b"data"], array)
    found = read_pickle(data, "here")[b"data"]
    assert isinstance(found, Array)
    assert (found.shape, found.fortran) == ((40, 30), fortran)
    order = np.frombuffer(found.data, np.uint8).reshape(found.shape, order="F" if fortran else "C")
    assert np.array_equal(order, array)


def test_what_is_shared_stays_shared():
    shared = b"\x80\x02]q\x01h\x01a."  # a list that holds itself
    found = read_pickle(shared, "here")
    assert found[0] is found


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_is_never_obeyed(tmp_path, protocol):
    data = pickle.dumps({"data": Trap(tmp_path / "made")}, protocol)
    with pytest.raises(DataError, match="not a plain pickle"):
        read_pickle(data, "here")
    assert not (tmp_path / "made").exists()
    pickle.loads(data)
    assert (tmp_path / "made").is_dir()  # the trap is sharp


@pytest.mark.parametrize(
    "name", ["os system", "builtins eval", "__builtin__ eval", "numpy load", "posix system", "numpy ndarray.__class__"]
)
def test_a_name_is_refused_by_name(name):
    module, word = name.split()
    with pytest.raises(DataError, match=f"it names '{module}.{word}', which is not read, at byte 2"):
        read_pickle(f"\x80\x02c{module}\n{word}\n.".encode("latin-1"), "here")


CALLS = {
    "an allowed name called": b"cnumpy\nndarray\nK\x05\x85R",
    "a large array": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R",
    "objects": b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R",
    "a string called": b"U\x02os)R",
    "state of a dictionary": b"}}b",
    "state of a name": b"cnumpy\nndarray\n}b",
    "an array of lists": pickled(np.zeros((2, 2), np.uint8))[2:-1].replace(b"K\x02K\x02", b"]]"),
    "another state": pickled(np.zeros((2, 2), np.uint8))[2:-1].replace(b"(K\x01", b"(K\x02"),
}


@pytest.mark.parametrize("body", CALLS.values(), ids=CALLS)
def test_only_numpys_two_calls_are_understood(body):
    with pytest.raises(DataError, match=r"it asks for another call|an array is not of plain bytes"):
        read_pickle(b"\x80\x02" + body + b".", "here")


_READ = """
    STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE NONE NEWTRUE NEWFALSE BININT1 BININT2 BININT SHORT_BINSTRING BINSTRING
    TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE
    BUILD PROTO
"""
READ = set(_READ.split())


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_every_other_operation_is_refused(opcode):
    data = b"\x80\x02" + opcode.code.encode("latin-1") + b"\x01\x00\x00\x00\x00\x00\x00\x00a\na\n."
    if opcode.name in READ:
        return
    with pytest.raises(DataError, match=r"operation b'.+' is not read at byte 2"):
        read_pickle(data, "here")


def test_every_operation_that_is_read_is_one_of_pythons():
    assert {opcode.name for opcode in pickletools.opcodes} > READ


def sample() -> bytes:
    return pickled(
        {b"data": np.arange(60, dtype=np.uint8).reshape(6, 10), b"labels": [1, 2, 300, -4], b"x": (None, True)}
    )


def test_a_pickle_cut_anywhere_is_refused():
    data = sample()
    for length in range(len(data)):
        with pytest.raises(DataError, match="not a plain pickle"):
            read_pickle(data[:length], "here")


def test_a_damaged_pickle_is_a_value_or_one_line():
    data, draws, refusals = sample(), random.Random(0), 0
    for _ in range(4000):
        damaged = bytearray(data)
        for _ in range(draws.randint(1, 3)):
            damaged[draws.randrange(len(data))] = draws.randrange(256)
        try:
            read_pickle(bytes(damaged), "here")
        except DataError:
            refusals += 1
    assert refusals > 1000


BOMBS = {
    "marks": b"(" * 200_000,
    "lists in lists": b"]" * 50_000 + b"a" * 49_999,
    "lists of the same": b"]" + b"q\x00]h\x00a" * 30_000,
    "a long string that is absent": b"T\xff\xff\xff\x7f",
    "a negative length": b"T\xff\xff\xff\xff",
    "a number in memory": b"]r\xff\xff\xff\xff",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_memory_is_bounded_by_the_file(body):
    tracemalloc.start()
    with contextlib.suppress(DataError):
        read_pickle(b"\x80\x02" + body + b".", "here")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200 * len(body) + 100_000

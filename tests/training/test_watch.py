"""Signs of life: the first cause stays, the late and the gone are named, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from residual.errors import Elsewhere, NonFiniteError, StorageError
from residual.training.watch import Watch


class Table:
    """A store within one process; `lost` breaks the connection."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.lost = False

    def _reach(self) -> None:
        if self.lost:
            raise RuntimeError("Connection reset by peer")

    def set(self, key: str, value: str, /) -> None:
        self._reach()
        self.texts[key] = value.encode()

    def get(self, key: str, /) -> bytes:
        self._reach()
        return self.texts[key]

    def check(self, keys: list[str], /) -> bool:
        self._reach()
        return all(key in self.texts for key in keys)

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        return [self.get(key) for key in keys]

    def compare_set(self, key: str, expected_value: str, desired_value: str, /) -> bytes:
        self._reach()
        with self.lock:
            if self.texts.get(key, b"") == expected_value.encode():
                self.texts[key] = desired_value.encode()
            return self.texts[key]


@pytest.fixture
def pair() -> Iterator[tuple[Table, Watch, Watch]]:
    table = Table()
    watches = Watch(table, 0, 2, 0.3), Watch(table, 1, 2, 0.3)
    yield table, *watches
    for watch in watches:
        watch.stop()


def until(watch: Watch) -> Elsewhere:
    began = time.monotonic()
    while watch.cause is None:
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    return watch.cause


def test_the_first_cause_reaches_all_in_its_words_and_with_its_code(pair: tuple[Table, Watch, Watch]) -> None:
    _, first, second = pair
    first.start()
    cause, own = second.fail(StorageError("cannot write", "runs/x", "free some space"))
    assert own
    assert str(cause) == "rank 1: cannot write (runs/x): free some space"
    assert (str(until(first)), until(first).exit_code) == (str(cause), 5)
    later, own = first.fail(ValueError("what came of it"))
    assert (str(later), own) == (str(cause), False)
    with pytest.raises(Elsewhere, match="rank 1: cannot write"), first.meeting():
        pass


def test_what_all_raise_alike_names_no_rank(pair: tuple[Table, Watch, Watch]) -> None:
    cause, own = pair[1].fail(NonFiniteError("the loss is not finite at step 3 on rank 1 of 2"))
    assert own
    assert str(cause).startswith("the loss")
    assert cause.exit_code == 7


def test_a_rank_that_beats_and_does_nothing_hangs(pair: tuple[Table, Watch, Watch]) -> None:
    _, first, second = pair
    first.start()
    second.start()
    second.moved(12)
    with first.meeting():
        cause = until(first)
    assert str(cause).startswith("rank 1 of 2 hangs: for 0.3 s it has done nothing since step 12 (processes.timeout)")
    assert str(until(second)) == str(cause)


def test_a_rank_that_gives_no_beat_is_gone(pair: tuple[Table, Watch, Watch]) -> None:
    _, first, second = pair
    second.moved(7)
    second._beat()
    first.start()
    with first.meeting():
        cause = until(first)
    assert str(cause).startswith("rank 1 of 2 is gone, last heard of after step 7")


def test_a_connection_that_breaks_is_put_down_to_the_silent_rank(
    pair: tuple[Table, Watch, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, _ = pair
    first.start()
    with pytest.raises(Elsewhere, match="rank 1 of 2 is gone"), first.meeting():
        raise RuntimeError("Connection closed by peer")


def test_a_rank_that_works_is_waited_for(pair: tuple[Table, Watch, Watch]) -> None:
    _, first, second = pair
    first.start()
    second.start()
    with first.meeting():
        for _ in range(20):
            second.moved()
            time.sleep(0.05)
        assert first.cause is None


def test_a_lost_store_is_the_loss_of_rank_0(pair: tuple[Table, Watch, Watch]) -> None:
    table, _, second = pair
    second.start()
    table.lost = True
    assert str(until(second)).startswith("rank 0 cannot be reached any more")
    cause, own = second.fail(until(second))
    assert (str(cause), own) == (str(until(second)), True)

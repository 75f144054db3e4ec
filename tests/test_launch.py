"""What a launcher says of a process, and what is refused of it."""

from __future__ import annotations

import pytest

from residual.cli.main import run
from residual.errors import UsageError
from residual.launch import Launch, launched

WORDS = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node-0",
    "MASTER_PORT": "29500",
}


def test_the_words_of_torchrun_are_understood() -> None:
    found = launched(WORDS | {"TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert found == Launch(3, 4, 1, 2, "node-0", 29500, True)
    assert found.command == "torchrun --nnodes 2 --nproc-per-node 2 -m residual"
    assert launched(WORDS) == Launch(3, 4, 1, 2, "node-0", 29500, False)


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "4"}, {"RANK": "0", "MASTER_ADDR": "x"}])
def test_without_rank_and_number_a_process_is_alone(environment: dict[str, str]) -> None:
    assert launched(environment) is None


def test_one_process_needs_no_place_to_meet() -> None:
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) == Launch(0, 1, 0, 1, "", 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"RANK": "4"}, "RANK is '4'"),
        ({"RANK": "-1"}, "RANK"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR"),
    ],
)
def test_words_that_contradict_each_other_are_refused_in_one_line(change: dict[str, str], word: str) -> None:
    with pytest.raises(UsageError, match="with torchrun") as caught:
        launched(WORDS | change)
    assert word in str(caught.value)


def test_a_port_is_needed() -> None:
    with pytest.raises(UsageError, match="MASTER_PORT is not set"):
        launched({name: word for name, word in WORDS.items() if name != "MASTER_PORT"})


def test_only_a_training_is_shared_by_the_processes_of_a_launcher(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, word in WORDS.items():
        monkeypatch.setenv(name, word)
    assert run(["tune", "digits"]) == 2
    assert run(["study", "compare"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "error: a launcher has started 4 processes, and they share a training alone (residual tune): "
        "give this command without the launcher"
    )
    assert len(said) == 2


def test_a_launched_run_needs_a_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run(["train", "digits"]) == 2
    assert "a launcher may start a run again, which must then be found (--out)" in capsys.readouterr().err

"""Every failure is one line with a way out, and all faults of one input come at once."""

import copy
import pickle
import sys

import pytest

from residual import errors
from residual.errors import Elsewhere, Fault, Interrupted, InUse, ResidualError, UsageError, argument, check, nearest

CODES = {
    "ResidualError": 1,
    "UsageError": 2,
    "DataError": 3,
    "ModelError": 4,
    "StorageError": 5,
    "EnvironmentFault": 6,
    "NonFiniteError": 7,
}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ResidualError("it broke"), "it broke"),
        (ResidualError("it broke", "a.png"), "it broke (a.png)"),
        (ResidualError("it broke", "", "mend it"), "it broke: mend it"),
        (ResidualError("it broke", 7, "mend it"), "it broke (7): mend it"),
        (ResidualError("two\nlines\r\n", "a\tb\u2028c", "mend\n\n it"), "two lines (a b c): mend it"),
    ],
)
def test_a_failure_is_one_line(error, line):
    assert str(error) == line
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_each_kind_has_its_exit_code(name, code):
    kind = getattr(errors, name)
    assert kind("what").exit_code == code
    assert issubclass(kind, ResidualError)


@pytest.mark.parametrize(("signal_number", "code"), [(2, 130), (15, 143)])
def test_an_interruption_carries_its_signal(signal_number, code):
    error = errors.Interrupted("stopped", "runs/a", "go on with --resume", signal_number)
    assert error.exit_code == code
    assert str(error) == "stopped (runs/a): go on with --resume"


def test_check_is_silent_without_faults():
    check("this cannot start", [])
    check("this cannot start", iter(()))


def test_check_tells_every_fault_at_once():
    faults = (
        Fault("momentum", 1.2, "it must lie in [0, 1)"),
        Fault("name", "a\nb", "it must be one line", "choose another"),
    )
    with pytest.raises(UsageError) as caught:
        check("this cannot start", (fault for fault in faults), "recipe.toml")
    assert str(caught.value) == (
        "this cannot start (recipe.toml): momentum is 1.2: it must lie in [0, 1). "
        "name is 'a\\nb': it must be one line; choose another"
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("resnt-20", "did you mean resnet-20?"),
        ("RESNET-20", "did you mean resnet-20?"),
        ("digit", "did you mean digits?"),
        ("qqqq", "choose one of resnet-20, digits"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, answer):
    assert nearest(name, ["resnet-20", "digits"]) == answer


def test_a_long_list_of_names_is_cut():
    answer = nearest("qqqq", [f"name{number}" for number in range(13)])
    assert answer.endswith("name11, ...")
    assert "name12" not in answer


@pytest.mark.parametrize(
    "error",
    [Interrupted("stopped", "a run", "resume it", 15), Elsewhere("gone", "rank 1", "", 6), InUse("a", "b", "c")],
)
def test_every_error_survives_the_way_between_processes(error: ResidualError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


@pytest.mark.parametrize(
    ("path", "posix", "windows"),
    [
        ("runs/a", "runs/a", "runs/a"),
        (r"C:\Users\me\runs", r"'C:\Users\me\runs'", r"C:\Users\me\runs"),
        ("my photos", "'my photos'", '"my photos"'),
        ("R&D", "'R&D'", '"R&D"'),
        ("my photos\\", "'my photos\\'", '"my photos\\\\"'),
        ("-x", "./-x", "./-x"),
    ],
)
def test_a_path_is_quoted_as_the_shell_of_the_system_takes_it(path, posix, windows, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert argument(path) == posix
    monkeypatch.setattr(sys, "platform", "win32")
    assert argument(path) == windows

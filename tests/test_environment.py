"""What the program needs of the machine is asked before anything else, and said in words."""

import platform
import sys
import tomllib
from importlib import metadata

import pytest
import torch

from residual import device, environment
from residual.environment import MINIMA, check_versions, machine, versions
from residual.errors import EnvironmentFault
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2.13.0", (2, 13, 0)),
        ("2.13.0+cpu", (2, 13, 0)),
        ("2.13.0rc1", (2, 13, 0)),
        ("2.12.0a0+git1234", (2, 12, 0)),
        ("10.0", (10, 0)),
        ("12", (12,)),
        ("2.x.5", (2,)),
        ("unknown", ()),
        ("", ()),
    ],
)
def test_a_version_is_read_as_numbers(text, parts):
    assert environment._parts(text) == parts


def test_ten_is_more_than_nine():
    assert environment._parts("2.9.1") < environment._parts("2.11")


def test_this_machine_is_good_enough():
    check_versions()


def test_the_minima_are_those_of_the_package():
    """`pip install` and the program must not disagree on what is too old."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = dict(text.split(">=") for text in project["dependencies"])
    assert MINIMA.items() <= declared.items()
    assert project["requires-python"] == ">=" + ".".join(map(str, environment.PYTHON))


@pytest.mark.parametrize("name", MINIMA)
def test_a_library_below_its_minimum_is_refused(name, monkeypatch):
    found = metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: "0.1.2" if asked == name else found(asked))
    with pytest.raises(EnvironmentFault, match=f"{name} 0.1.2 is too old .*pip install '{name}>={MINIMA[name]}'"):
        check_versions()


@pytest.mark.parametrize(("name", "old"), [("torch", "2.9.1"), ("torch", "2.10.0+cpu"), ("pillow", "9.5.0")])
def test_versions_are_compared_as_numbers(name, old, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda asked: old if asked == name else MINIMA[asked])
    with pytest.raises(EnvironmentFault, match=f"{name} .* is too old"):
        check_versions()


def test_a_library_at_its_minimum_is_accepted(monkeypatch):
    monkeypatch.setattr(metadata, "version", MINIMA.__getitem__)
    check_versions()


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(MINIMA, "no-such-library", "3")
    with pytest.raises(EnvironmentFault, match=r"no-such-library is not installed .*pip install 'no-such-library>=3'"):
        check_versions()


def test_an_old_python_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 14))
    with pytest.raises(EnvironmentFault, match=r"is too old .*install Python 3\.11 or newer") as caught:
        check_versions()
    assert caught.value.exit_code == 6


def test_the_versions_of_a_run_are_told():
    found = versions()
    assert found["torch"] == metadata.version("torch")
    assert set(found) == {"residual", "python", *MINIMA}


def test_the_machine_is_described_without_its_name():
    found = machine()
    assert set(found) == {"system", "architecture", "processor", "cores"}
    assert isinstance(found["cores"], int)
    assert found["cores"] >= 1
    assert platform.node() not in [str(value) for value in found.values()]


def test_devices_are_listed_with_the_cpu_first():
    found = device.devices()
    assert found[0] == "cpu"
    assert len(found) - 1 == torch.cuda.device_count() + torch.backends.mps.is_available()


def test_auto_takes_the_first_gpu_or_the_cpu():
    assert device.choose_device("auto") == (device.devices()[1:] or ["cpu"])[0]
    assert device.choose_device("cpu") == "cpu"


@pytest.mark.parametrize("wanted", ["cuda:77", "gpu", "", "x" * 5000])
def test_an_absent_device_is_answered_with_those_present(wanted):
    with pytest.raises(EnvironmentFault, match="this machine has cpu") as caught:
        device.choose_device(wanted)
    assert caught.value.exit_code == 6
    assert len(str(caught.value)) < 300

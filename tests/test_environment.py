"""What the program needs of the machine is asked before anything else, and said in words."""

import platform
import sys
import tomllib
from importlib import metadata
from typing import Any, cast

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


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs of which torch can use what `usable` names; `tried` says which were tried."""
    usable, tried = {"cuda:0", "cuda:1"}, []

    class Found(float):
        def __add__(self, other):
            return self

    def zeros(_, device):
        tried.append(device)
        if device not in usable:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with")
        return Found()

    monkeypatch.setattr(device, "devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(device, "_told", set())
    monkeypatch.setattr(device, "_usable", set())
    return usable, tried


def test_a_gpu_that_torch_cannot_use_is_passed_over(two_gpus, caplog):
    usable, tried = two_gpus
    usable.remove("cuda:0")
    assert [device.choose_device("auto") for _ in range(3)] == ["cuda:1"] * 3
    assert tried == ["cuda:0", "cuda:1", "cuda:0", "cuda:0"], "what can be used is tried once"
    (said,) = caplog.messages
    assert said.endswith(
        "cuda:0 is passed over, since torch cannot use it: CUDA error: no kernel image is available "
        "for execution on the device"
    )
    with pytest.raises(EnvironmentFault, match=r"cuda:0 cannot be used, torch says: CUDA error: no .*--device cpu"):
        device.choose_device("cuda")


def test_a_gpu_whose_memory_was_full_for_a_moment_is_used_after_it(two_gpus):
    usable, _ = two_gpus
    usable.clear()
    assert device.choose_device("auto") == "cpu"
    usable.add("cuda:0")
    assert device.choose_device("auto") == device.choose_device("cuda") == "cuda:0"


def test_auto_is_the_cpu_where_no_gpu_can_be_used(two_gpus):
    usable, tried = two_gpus
    usable.clear()
    assert device.choose_device("cpu") == "cpu"
    assert tried == []
    assert device.choose_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("build", "hidden", "words"),
    [
        (None, None, "this build of torch is for a CPU alone .*install torch as pytorch.org has it"),
        ("13.0", "", "CUDA_VISIBLE_DEVICES= hides them all .*; unset CUDA_VISIBLE_DEVICES"),
        ("13.0", None, "torch says: Found no NVIDIA driver on your system .*; see that nvidia-smi lists one"),
    ],
)
def test_why_there_is_no_gpu_is_said(build, hidden, words, monkeypatch):
    def init():
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU")

    monkeypatch.setattr(device, "devices", lambda: ["cpu"])
    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(EnvironmentFault, match=f"no device cuda here, {words}"):
        device.choose_device("cuda")
    with pytest.raises(EnvironmentFault, match=r"no device gpu here \(--device\): this machine has cpu$"):
        device.choose_device("gpu")


def test_float32_is_float32_in_convolutions_and_recurrent_layers():
    device.keep_float32()
    cudnn = cast(Any, torch.backends.cudnn)
    found = [kind.fp32_precision for kind in (cudnn.conv, cudnn.rnn)]
    assert found == ["ieee", "ieee"]
    assert not torch.backends.cudnn.allow_tf32


def test_a_gpu_is_a_part_of_the_machine(monkeypatch):
    from types import SimpleNamespace

    gpu = SimpleNamespace(name="NVIDIA Z1", major=9, minor=0)
    asked: list[object] = []

    def properties(device: object) -> object:
        asked.append(device)
        return gpu

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    found = machine("cuda:1")
    assert asked == ["cuda:1"]
    assert {name: found[name] for name in set(found) - set(machine())} == {
        "gpu": "NVIDIA Z1",
        "capability": "9.0",
        "cuda": "13.0",
        "cudnn": 91002,
    }

    def gone(device):
        raise AssertionError("Invalid device id")

    monkeypatch.setattr(torch.cuda, "get_device_properties", gone)
    assert machine("cuda:7") == machine()

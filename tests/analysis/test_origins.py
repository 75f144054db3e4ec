"""Where a setting came from, told from run.json alone."""

from __future__ import annotations

import pytest

from residual.analysis.origins import settings
from residual.homes import without_home

STATED = {"data": {"dataset": "digits"}, "schedule": {"peak": 0.2}, "batch_size": 64}


def facts(command, changed=(), **more):
    recipe = {
        "format": 1,
        "name": "digits",
        "source": "Ours.",
        "seed": 0,
        "batch_size": 64,
        "steps": None,
        "data": {"dataset": "digits", "path": "/home/anna/digits", "validation": 0.1},
        "network": {"name": "resnet-8", "stem": None},
        "schedule": {"peak": 0.2, "rise": 0.25},
        "compute": {"device": "auto", "precision": "float32", "threads": 0},
    }
    chosen = {"device": "cpu", "precision": "float32", "threads": 2, "steps": 99}
    reasons = {"device": "this machine has cpu", "precision": "asked for", "threads": "the default of torch"}
    network = {"name": "resnet-8", "stem": "3x3"}
    whole = {"command": command, "recipe": recipe, "changed": dict.fromkeys(changed), "chosen": chosen}
    return whole | {"reasons": reasons, "network": network} | more


def origins(*arguments, stated=STATED):
    return {s.path: (s.value, s.origin) for s in settings(facts(*arguments), stated)}


def test_every_value_has_the_origin_it_had():
    command = "residual train --data ~/digits --set 'schedule.peak = 0.2' --network=resnet-8 --protocol tune"
    found = origins(command, ["data.path", "schedule.peak", "network.name", "data.validation", "seed"])
    assert found == {
        "seed": (0, "set when it was started"),
        "batch_size": (64, "recipe digits"),
        "steps": (99, "follows from epochs, images and batch size"),
        "data.dataset": ("digits", "recipe digits"),
        "data.path": ("~/digits", "--data"),
        "data.validation": (0.1, "--protocol"),
        "network.name": ("resnet-8", "--network"),
        "network.stem": ("3x3", "network resnet-8"),
        "schedule.peak": (0.2, "--set"),
        "schedule.rise": (0.25, "default"),
        "compute.device": ("cpu", "chosen: this machine has cpu"),
        "compute.precision": ("float32", "default"),
        "compute.threads": (2, "chosen: the default of torch"),
    }


def test_a_recipe_file_is_named_and_a_foreign_command_is_not_read():
    assert origins("residual train my/own.toml")["batch_size"] == (64, "recipe file own.toml")
    assert origins("python own.toml --seed 3", ["seed"])["seed"] == (0, "set when it was started")
    assert origins("residual 'open", ["seed"])["seed"] == (0, "set when it was started")
    assert origins("residual train", stated=None)["schedule.rise"] == (0.25, "recipe digits")


def test_what_the_images_settled_is_told_with_its_reason():
    whole = facts("residual train", settled={"batch_size": 8}) | {"reasons": {"batch_size": "few images"}}
    found = {s.path: s for s in settings(whole, STATED)}
    assert (found["batch_size"].value, found["batch_size"].origin) == (8, "chosen: few images")


def test_what_was_changed_is_marked():
    marked = [s.path for s in settings(facts("residual train --seed 0", ["seed"])) if s.given]
    assert marked == ["seed"]


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("--data /home/anna/cifar --out /Users/bo/x", "--data ~/cifar --out ~/x"),
        (r"C:\Users\Anna\data", r"~\data"),
        ("'/home/anna b/data'", "'~ b/data'"),
        ("/root/runs and /rooted", "~/runs and /rooted"),
        ("/data/home", "/data/home"),
    ],
)
def test_names_of_users_are_left_out(text, without):
    assert without_home(text) == without


@pytest.mark.parametrize(
    ("text", "without"),
    [
        (r"C:\Users\Bob Smith\photos", r"~\photos"),
        (r"c:\users\bob\photos", r"~\photos"),
        (r"D:/USERS/bob/photos", "~/photos"),
        (r"C:\Users\Bob Smith", "~"),
        (r"residual train 'C:\Users\Bob Smith' --out C:\Users\bob --seed 3", "residual train '~' --out ~ --seed 3"),
        (r"residual train C:\Users\bob --data D:\x", r"residual train ~ --data D:\x"),
        (r"--from C:\Users\bob C:\Users\Al B Co\x", r"--from ~ ~\x"),
        (r"no file (C:\\Users\\bob\\x)", r"no file (~\\x)"),
    ],
)
def test_home_folders_of_windows_are_left_out_whole(text: str, without: str) -> None:
    assert without_home(text) == without

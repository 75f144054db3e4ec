"""Command lines that mean nothing: every one is answered in one line that names the way out."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest

from residual.cli.asked import CUSTOMARY, JUDGING, customary
from residual.cli.main import app
from residual.errors import UsageError, log
from residual.models import NETWORKS
from residual.training.recipe import override
from residual.training.recipes import RECIPES, _tell_of_folder
from residual.training.values import parse_override
from residual.version import VERSION
from tests.cli.conftest import SIX, TINY, only_error
from tests.data.photographs import photographs

VERBS = ("train", "evaluate", "predict", "runs", "curves", "models", "recipes", "samples", "completion")

UNKNOWN = {
    "option": (["train", "--epoch", 3], ["--epoch ", "did you mean --epochs?"]),
    "verb": (["trian"], ["trian", 'did you mean "train"?']),
    "no verb": (["--fast"], ["--fast", "stands where a command is expected"]),
    "word": (["train", "digits", "more"], ["unexpected: more", "residual train --help"]),
    "setting": (["train", "--set", "optimiser.momentun=0.9"], ["optimiser.momentun", "did you mean momentum?"]),
    "setting of the top": (["train", "--set", "sede=1"], ["sede", "did you mean seed"]),
    "group": (["train", "--set", "optimizer.momentum=0.9"], ["optimizer", "did you mean optimiser?"]),
    "deep group": (["train", "--set", "data.augment.shfit=1"], ["data.augment.shfit", "did you mean shift?"]),
    "path below a value": (["train", "--set", "seed.x=1"], ["seed.x", "seed is no group of settings"]),
    "path below nothing": (["train", "--set", "data.path.x=3"], ["data.path: must be a word"]),
    "setting of a schedule": (["train", "--set", "schedule.peek=1"], ["schedule.peek", "did you mean peak?"]),
    "schedule": (["train", "--set", "schedule.kind=onecycle"], ["schedule.kind", "did you mean one-cycle?"]),
    "setting of another schedule": (
        ["train", "--set", "schedule.kind=steps", "--set", "schedule.peak=1"],
        ["schedule.peak", "no such setting", "rate"],
    ),
    "recipe": (["train", "digit"], ["'digit'", "did you mean digits?"]),
    "recipe without a name": (["train", ""], ["''", "digits"]),
    "recipe to print": (["recipes", "cifar10"], ["'cifar10'", "cifar10-fast"]),
    "network": (["train", "--network", "resnet20x"], ["resnet20x", "did you mean resnet-20"]),
    "network to list": (["models", "resnet-21"], ["resnet-21", "did you mean resnet-"]),
    "part of a network": (["models", "resnet-20", "--set", "shortcutt=A"], ["shortcutt", "did you mean shortcut?"]),
    "split": (["evaluate", "--split", "tset"], ["tset", "validation", 'did you mean "test"?']),
    "log": (["train", "--log", "pretty"], ["pretty", '"plain"']),
    "protocol": (["train", "--protocol", "x"], ['"tune", "final"']),
    "format": (["predict", "last", "x.png", "--format", "xml"], ["xml", '"csv"']),
    "shell": (["completion", "tcsh"], ["tcsh", '"fish"']),
    "run": (["train", "--resume", "nosuch"], ["nosuch", "residual runs"]),
    "run to judge": (["evaluate", "nosuch"], ["nosuch", "residual runs"]),
    "run to draw": (["curves", "nosuch"], ["nosuch", "residual runs"]),
    "runs to compare": (["runs", "nosuch", "other"], ["nosuch", "residual runs"]),
    "last run": (["evaluate"], ["no run yet", "residual train"]),
    "last run to resume": (["train", "--resume"], ["no run yet", "residual train"]),
    "device": (["train", "--device", "tpu"], ["'tpu'", "auto, cpu, mps, cuda or cuda:N"]),
    "precision": (["train", "--set", "compute.precision=float8"], ["'float16'", "'bfloat16'", "'float32'"]),
}


@pytest.mark.parametrize(("arguments", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_name_is_answered_with_the_nearest(refused, arguments, words):
    refused(2, arguments, *words)


VALUES = {
    "epochs 0": (["--epochs", "0"], ["epochs is 0", "greater than 0"]),
    "epochs -1": (["--epochs", "-1"], ["epochs is -1", "greater than 0"]),
    "epochs abc": (["--epochs", "abc"], ["--epochs", "'abc' is not a number"]),
    "epochs empty": (["--epochs", ""], ["--epochs", "'' is not a number"]),
    "epochs nan": (["--epochs", "nan"], ["epochs is nan", "finite"]),
    "epochs 1e999": (["--epochs", "1e999"], ["epochs is inf", "finite"]),
    "epochs 1e9": (["--epochs", "1e9"], ["epochs is 1000000000", "less than or equal to 1000000"]),
    "steps 0": (["--set", "steps=0"], ["steps is 0", "greater than or equal to 1"]),
    "batch 0": (["--batch-size", "0"], ["batch_size is 0", "greater than or equal to 1"]),
    "batch 10^12": (["--batch-size", "1000000000000"], ["batch_size is 1000000000000", "1048576"]),
    "batch 1.5": (["--batch-size", "1.5"], ["--batch-size", "'1.5' is not a whole number"]),
    "batch 0x": (["--batch-size", "0x"], ["--batch-size", "whole number"]),
    "seed 1.5": (["--seed", "1.5"], ["--seed", "'1.5' is not a whole number"]),
    "seed -1": (["--seed", "-1"], ["seed is -1", "greater than or equal to 0"]),
    "seed 2^53": (["--seed", 2**53], ["seed", "less than 9007199254740992"]),
    "seed half": (["--set", "seed=1.5"], ["seed is 1.5", "whole number"]),
    "seed of 5000 digits": (["--set", "seed=" + "9" * 5000], ["seed", "..."]),
    "rate nan": (["--set", "schedule.peak=nan"], ["schedule.peak is nan", "finite"]),
    "rate inf": (["--set", "schedule.peak=inf"], ["schedule.peak is inf", "finite"]),
    "rate 0": (["--set", "schedule.peak=0"], ["schedule.peak is 0", "greater than 0"]),
    "rate -1": (["--set", "schedule.peak=-1"], ["schedule.peak is -1", "greater than 0"]),
    "rate, a word": (["--set", "schedule.peak=high"], ["schedule.peak is 'high'", "number"]),
    "momentum 1.2": (["--set", "optimiser.momentum=1.2"], ["optimiser.momentum is 1.2", "less than 1"]),
    "threads 10^12": (["--set", "compute.threads=1000000000000"], ["compute.threads", "4096"]),
    "every inf seconds": (["--set", "checkpoint.every_seconds=inf"], ["checkpoint.every_seconds is inf", "finite"]),
    "validation nan": (["--set", "data.validation=nan"], ["data.validation is nan", "finite"]),
    "a group": (["--set", "data=3"], ["data is 3", "group of settings"]),
    "a schedule": (["--set", "schedule=3"], ["schedule is 3", "group of settings"]),
    "mirror, a word": (["--set", "data.augment.mirror=maybe"], ["mirror is 'maybe': must be true or false"]),
    "widths, a number": (["--set", "network.widths=16"], ["network.widths is 16: must be a list, as in [1, 2]"]),
    "parts that do not fit": (
        ["--set", "optimiser.nesterov=true", "--set", "optimiser.momentum=0"],
        ["(settings): optimiser: nesterov needs a momentum above 0; raise momentum"],
    ),
    "one class": (["--set", "data.classes=[1]"], ["must have at least 2 items"]),
    "no stage": (["--set", "network.depths=[]"], ["network.depths is []", "at least 1"]),
    "no channel": (["--set", "network.widths=[0,4,4]"], ["network.widths.0 is 0", "greater than or equal to 1"]),
    "unlike lists": (["--set", "network.widths=[4,4]"], ["depths has 3 stages, widths 2", "one number a stage"]),
    "name": (["--set", "name=../x"], ["'../x'", "letters, digits"]),
    "format": (["--set", "format=2"], ["format is 2", "install the release"]),
    "two lengths": (["--set", "epochs=2", "--set", "steps=3"], ["epochs is 2", "steps is 3", "one of the two"]),
    "no length": (["--set", "epochs=none"], ["needs a length", "epochs or steps"]),
    "no value": (["--set", "seed"], ["path=value", "as in"]),
    "no path": (["--set", "=3"], ["path=value", "as in"]),
    "nothing to set": (["--set"], ["--set needs a value"]),
    "override alone": (["--override"], ["--override", "--resume"]),
    "out and resume": (["--out", "a", "--resume", "b"], ["--out", "--resume", "leave --out away"]),
    "a second line": (["--set", "seed=1\nformat=2"], ["seed is '1\\nformat=2'", "whole number"]),
}


@pytest.mark.parametrize(("arguments", "words"), VALUES.values(), ids=VALUES)
def test_a_bad_value_is_named_with_its_rule(refused, arguments, words):
    refused(2, ["train", *arguments], *words)


OTHERS = {
    "no image": (["predict", "last"], ["no image", "residual predict RUN"]),
    "no run": (["predict"], ["no RUN was named", "residual predict --help"]),
    "top 0": (["predict", "last", "x.png", "--top-k", 0], ["top-k is 0", "at least 1"]),
    "top 1.5": (["predict", "last", "x.png", "--top-k", 1.5], ["--top-k", "whole number"]),
    "no samples": (["samples", "x", "--count", 0], ["count is 0", "between 1 and 359"]),
    "no folder": (["samples"], ["no FOLDER was named"]),
    "0 classes": (["models", "--classes", 0], ["0 is out of range (--classes)", "between 2 and"]),
    "-3 classes": (["models", "resnet-20", "--classes", -3], ["(--classes)", "between 2 and"]),
    "0 channels": (["models", "--channels", 0], ["(--channels)", "between 1 and"]),
    "0 pixels": (["models", "--image-size", 0], ["(--image-size)", "between 1 and"]),
    "10^9 pixels": (["models", "--image-size", 10**9], ["(--image-size)", "between 1 and"]),
    "an option first": (["--json", "models"], ["--json stands where a command is", "`residual models --json`"]),
    "an option alone": (["-v"], ["-v stands where a command is expected", "`residual --version`"]),
    "export, another word": (["export", "last", "--format", "onnx"], ["unknown option: --format", "here it is --to"]),
    "predict, another word": (["predict", "last", "x.png", "--to", "csv"], ["here it is --format csv"]),
    "a letter for a digit": (["models", "resnet-2O"], ["did you mean resnet-20 or resnet-32?"]),
    "two faults of a network": (
        ["models", "resnet-20", "--set", "dropout=2", "--set", "norm_eps=-1"],
        ["dropout is 2: must be less than 1", "norm_eps is -1"],
    ),
    "another network": (["models", "resnet-20", "--set", "name=resnet-8"], ["no such part: name"]),
    "two shortcuts": (["models", "resnet-20", "--set", "shortcut=A", "--set", "shortcut=B"], ["given twice"]),
    "parts of no network": (["models", "--set", "shortcut=A"], ["--set needs the name of a network"]),
    "several runs, no file": (["curves", "a", "b"], ["no such run"]),
}


@pytest.mark.parametrize(("arguments", "words"), OTHERS.values(), ids=OTHERS)
def test_the_other_verbs_refuse_as_well(refused, arguments, words):
    refused(2, arguments, *words)


def test_all_faults_are_told_at_once(refused):
    bad = ["optimiser.momentum=1.2", "schedule.peak=-1", "bogus=3", "seed=-1", "seed=-2", "network.name=resnet-21"]
    refused(
        2,
        ["train", "--epochs", "0", *(token for text in bad for token in ("--set", text))],
        *("epochs is 0", "optimiser.momentum is 1.2", "schedule.peak is -1", "bogus is 3", "seed is -2: given twice"),
        *("network.name is 'resnet-21'", "did you mean resnet-"),
    )


TWICE = {
    "option": (["--seed", 1, "--seed", 2], ["--seed is given twice"]),
    "option, same value": (["--seed", 1, "--seed", 1], ["--seed is given twice"]),
    "option and setting": (["--seed", 1, "--set", "seed=2"], ["seed is 2: given twice, first as 1"]),
    "settings": (["--set", "seed=1", "--set", "seed=2"], ["seed is 2: given twice, first as 1"]),
    "length": (["--epochs", 1, "--set", "epochs=2"], ["epochs is 2: given twice"]),
    "log": (["--log", "bar", "--log", "json"], ["--log is given twice"]),
}


@pytest.mark.parametrize(("arguments", "words"), TWICE.values(), ids=TWICE)
def test_what_is_given_twice_is_refused(refused, arguments, words):
    refused(2, ["train", *arguments], *words, "give it once")


def test_the_same_value_twice_is_no_contradiction(say):
    said = say(*SIX, "--seed", 7, "--set", "seed=7", "--set", "seed=7")
    assert (said.code, said.err) == (0, "")
    assert "seed 7" in said.out


@pytest.mark.parametrize("device", ["cuda:7", "cuda:99999999999999999999"])
def test_an_absent_device_is_answered_with_the_present_ones(refused, device):
    refused(6, ["train", "--device", device], f"no device {device} here", "this machine has cpu")


def test_absent_mps_is_answered_with_the_present_ones(refused):
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    refused(6, ["train", "--device", "mps"], "no device mps here", "this machine has cpu")


def test_a_batch_larger_than_the_data_says_how_large_it_may_be(refused):
    refused(2, ["train", "--batch-size", "5000"], "1294 training images", "batch of 5000", "1294 or less")


@pytest.mark.parametrize(
    ("width", "code", "words"), [(10**6, 6, "out of memory"), (10**9, 2, "must be less than or equal to 1048576")]
)
def test_a_network_larger_than_memory_or_than_any_is_refused(say, here, width, code, words):
    said = say(*TINY[:4], "--set", "network.name=resnet-8", "--set", f"network.widths=[{width},{width},{width}]")
    assert said.code == code
    assert words in only_error(said)


def test_a_fault_of_the_program_is_said_to_be_one(say, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("residual.training.recipes.find_recipe", broken)
    said = say("recipes", "digits")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        "error: ZeroDivisionError: division by zero (a fault of the program): run again with --debug and report it"
    ]
    with pytest.raises(ZeroDivisionError):
        say("recipes", "digits", "--debug")


def test_a_note_is_said_once_in_a_command_and_a_warning_as_often_as_it_comes(say, monkeypatch):
    def find(_):
        for _ in range(3):
            log.info("a note")
            log.warning("a warning")
        raise UsageError("enough", "here", "stop")

    monkeypatch.setattr("residual.training.recipes.find_recipe", find)
    for _ in range(2):
        lines = say("recipes", "digits").err.splitlines()
        assert (lines.count("info: a note"), lines.count("warning: a warning")) == (1, 3)


# What is right is answered, too.


@pytest.mark.parametrize("verb", VERBS)
def test_help_tells_of_every_option(say, verb):
    said = say(verb, "--help")
    text = " ".join(said.out.replace("│", " ").split())
    assert said.code == 0
    function = app[verb].default_command
    assert function is not None
    described = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        shown = name.upper() if parameter.kind is parameter.POSITIONAL_ONLY else name.rstrip("_").replace("_", "-")
        if parameter.kind is parameter.KEYWORD_ONLY:
            shown = "--" + shown
        assert shown.lower() in text.lower(), name
        words = described.split(f"\n{name}\n", 1)
        assert len(words) == 2, f"{verb} does not describe {name}"
        assert words[1].split(".")[0].strip().split("\n")[0].split("`")[0].strip()[:30] in text


def test_help_and_version(say):
    said = say("--help")
    assert said.code == 0
    assert all(verb in said.out for verb in VERBS)
    assert say("--version") == (0, f"{VERSION}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(say, shell):
    said = say("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert "train" in said.out
    assert "residual" in said.out


@pytest.mark.parametrize("shell", ["/bin/zsh", "/usr/bin/fish", "/bin/dash"])
def test_completion_of_the_own_shell(say, monkeypatch, shell):
    monkeypatch.setenv("SHELL", shell)
    named = say("completion", {"zsh": "zsh", "fish": "fish"}.get(shell.rsplit("/", 1)[-1], "bash"))
    assert say("completion") == named


def test_lists_as_json(say):
    models = json.loads(say("models", "--json").out)
    assert {row["name"] for row in models} == set(NETWORKS)
    one = json.loads(say("models", "resnet-20", "--json", "--classes", 2, "--set", "shortcut=B").out)
    assert (one["classes"], one["shortcut"]) == (2, "B")
    assert sum(layer["parameters"] for layer in one["layers"]) == one["parameters"]
    recipes = json.loads(say("recipes", "--json").out)
    assert {name: RECIPES[name].model_dump(mode="json") for name in recipes} == recipes
    assert json.loads(say("recipes", "digits", "--json").out) == recipes["digits"]
    assert json.loads(say("runs", "--json").out) == []


CUSTOMS = {
    "--lr": (["train", "--lr", "0.1"], ["unknown option: --lr", "--set schedule.peak=0.1"]),
    "--lr of find-lr": (["find-lr", "--lr", "0.1"], ["--set schedule.peak=0.1"]),
    "--batch": (["train", "--batch=32"], ["here it is --batch-size"]),
    "--weight_decay": (["train", "--weight_decay", "0"], ["--set optimiser.weight_decay"]),
    "--arch": (["train", "--arch", "resnet50"], ["here it is --network"]),
    "--pretrained": (["train", "--pretrained"], ["--from torchvision:resnet18"]),
    "--resume-from": (["train", "--resume-from", "x"], ["here it is --resume"]),
    "--imgsz": (["train", "--imgsz", "224"], ["--set data.image_size=224"]),
    "lr as a setting": (["train", "--set", "lr=1"], ["no setting is called lr", "schedule.peak"]),
    "optimizer as a setting": (["train", "--set", "optimizer=adam"], ["optimiser.kind"]),
    "a library's network": (["train", "--network", "timm:resnet50"], ["--from torchvision:resnet50"]),
    "bare weights": (["train", "--from", "resnet18"], ["no such run", "--from torchvision:resnet18"]),
    "--weights of predict": (["predict", "--weights", "x.pt", "a.png"], ["the first word", "residual predict last"]),
    "--source": (["predict", "last", "--source", "photos"], ["every word after the run", "predict last photos/"]),
    "--topk": (["predict", "last", "a.png", "--topk=5"], ["here it is --top-k"]),
    "--imgsz of predict": (["predict", "last", "a.png", "--imgsz", "224"], ["here it is not needed"]),
    "--output of explain": (["explain", "last", "a.png", "--save-dir", "x"], ["here it is --out FOLDER"]),
    "--checkpoint of evaluate": (["evaluate", "--checkpoint", "x.pth"], ["the first word", "residual evaluate last"]),
    "--tta": (["evaluate", "last", "--tta"], ["here it is --protocol 10-crop"]),
    "--data_dir of evaluate": (["evaluate", "last", "--data_dir", "photos"], ["here it is --data"]),
    "commands": (["trian"], ["reproduce, ..."]),
    "an image": (["train", "photo.JPG"], ["a single image", "residual predict"]),
    "--gpus": (["train", "--gpus", "4"], ["--processes 4"]),
    "--devices": (["train", "--devices", "4"], ["--processes 4"]),
    "--color-jitter": (["train", "--color-jitter", "0.4"], ["--set data.augment.colour_jitter=0.4"]),
    "--aa": (["train", "--aa", "rand-m9"], ["--set data.augment.trivial=true"]),
    "--hflip": (["train", "--hflip", "0.5"], ["--set data.augment.mirror=true"]),
}


@pytest.mark.parametrize(("arguments", "words"), CUSTOMS.values(), ids=CUSTOMS)
def test_the_customs_of_other_tools_are_answered_with_ours(refused, arguments, words):
    refused(2, arguments, *words)


def test_the_table_of_names_is_what_the_program_answers():
    """docs/other-tools.md, what it is called: each name is answered with a setting of its row."""
    page = (Path(__file__).parents[2] / "docs" / "other-tools.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", page.partition("## What it is called")[2], re.MULTILINE)
    assert len(rows) > 20
    for elsewhere, here in rows:
        for name in re.findall(r"`([\w ]+)`", elsewhere):
            ours = customary(name.split()[0])
            assert ours is not None, name
            assert any(path in here for path in re.findall(r"[a-z_]+\.[a-z_.]+", ours)), (name, ours)


@pytest.mark.parametrize("command", JUDGING)
def test_what_other_tools_say_where_a_network_is_used_leads_to_what_there_is(command):
    function = app[command].default_command
    assert function is not None
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(function).parameters}
    for words in JUDGING[command].values():
        assert {word.rstrip(",") for word in words.split() if word.startswith("--")} <= options, words


def test_what_other_tools_say_leads_to_what_there_is():
    """Every remedy begins with an option of `train` or `tune`, and every setting in one can be set."""
    options = set()
    for command in ("train", "tune"):
        function = app[command].default_command
        assert function is not None
        options |= {f"--{name.rstrip('_').replace('_', '-')}" for name in inspect.signature(function).parameters}
    for remedy in CUSTOMARY.values():
        assert remedy.split()[0] in options, remedy
        if remedy.startswith("--set "):
            settings = [word.rstrip(",") for word in shlex.split(remedy) if "=" in word]
            override(RECIPES["photos"], [parse_override(setting) for setting in settings])


def test_folders_are_remembered_where_a_name_is_wrong(refused, here):
    for name in ("Kestrels", "other"):
        (here / name).mkdir()
    refused(2, ["train", "kestrel"], "did you mean Kestrels/?")
    refused(2, ["train", "digits", "Kestrels"], "unexpected: Kestrels", "--data Kestrels")
    refused(2, ["train", "photos", "nothing/"], "unexpected: nothing/", "--data nothing/")
    refused(3, ["train", "nothing/"], "no such folder or file", "check the path;")


def test_a_folder_that_is_named_as_a_recipe_is_told_of(say, refused, here):
    photographs(here / "photos", count=1)
    refused(3, ["train", "photos"], "no folder of photographs was named", "residual train photos/")
    photographs(here / "digits", count=1)
    _tell_of_folder.cache_clear()
    said = say(*TINY, "--set", "steps=1")
    assert said.code == 0
    assert "digits is a recipe here" in said.err
    assert "digits/" in said.err
    _tell_of_folder.cache_clear()


def test_words_of_other_programs_at_the_front_door(say):
    assert say("version").out == say("-V").out == say("--version").out
    assert say("help").out == say("--help").out
    assert say("help", "train").out == say("train", "--help").out

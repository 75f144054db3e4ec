"""`residual train`."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from residual.cli.asked import asked, ending
from residual.cli.processes import become_launcher
from residual.cli.text import Auto, Log, Number, Whole
from residual.launch import launched, speaks

Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]


def train(
    recipe: str | None = None,
    /,
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    data: str | None = None,
    epochs: Number | None = None,
    budget: str | None = None,
    batch_size: Auto | None = None,
    network: str | None = None,
    seed: Whole | None = None,
    device: str | None = None,
    protocol: Literal["tune", "final"] | None = None,
    watch_test: bool = False,
    deterministic: bool = False,
    follow_links: bool = False,
    set: Many | None = None,
    out: str | None = None,
    or_resume: bool = False,
    resume: str | None = None,
    extend_to: str | None = None,
    override: bool = False,
    processes: Whole | None = None,
    tensorboard: bool = False,
    log: Log = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train a classifier; without arguments, the embedded handwritten digits.

    Parameters
    ----------
    recipe
        A named recipe (`residual recipes` lists them), a recipe.toml file, or photographs: a folder, .tar, .tar.gz,
        .csv, .tsv or a pack. FOLDER/CLASS/IMAGES, or FOLDER/train/CLASS/IMAGES with val/ and test/ beside train/.
    from_
        Begin from trained weights: a run, a model folder, a file that `residual import` takes, or torchvision:resnet50
        and the like. Without a recipe, photographs and digits then get the settings for fine-tuning.
    data
        The folder or archive with the images.
    epochs
        Passes over the training images.
    budget
        In place of epochs: the time the whole run may take, as 90s, 15m or 1h30m.
    batch_size
        Images per step; auto measures several sizes and takes the largest that still trains more images a second.
    network
        A named network (`residual models` lists them).
    seed
        Random seed: of the first weights, the order of the images, augmentation and dropout.
    device
        auto, cpu, mps, cuda or cuda:N.
    protocol
        tune holds a tenth of the training images out for validation, final trains on all of them; photographs with
        a val/ of their own are validated on that under both.
    watch_test
        Evaluate the test images at every validation too, only to report it: training never uses them, and the result
        says that they were watched.
    deterministic
        Refuse operations that are not deterministic; on a GPU, only this makes a resumed run equal bit for bit.
    follow_links
        Also follow links that lead out of a folder of photographs.
    set
        Any setting by path, as in `--set optimiser.weight_decay=1e-4`; may be given several times.
        `residual recipes --settings` lists them.
    out
        The run folder; must not exist. Without it, a new one under runs/.
    or_resume
        Continue the run at --out if it exists and has exactly these settings: one command for a job that may be
        restarted. Under torchrun this is always so.
    resume
        Go on with this run; without a value, the last one.
    extend_to
        With --resume: go on with a finished run, in a new run folder, to so many epochs in all, or as 80000steps.
    override
        With --resume: allow other compute and checkpoint settings.
    processes
        Train in so many processes on this machine, one for each GPU, with --out or --resume: the same as `torchrun
        --nproc-per-node N -m residual train`.
    tensorboard
        Also write events for TensorBoard, into the folder tensorboard/ of the run.
    log
        A bar on a terminal, plain lines elsewhere; or JSON lines. Under torchrun, which takes --log for one of its own
        options, write --progress.
    json
        The result as one JSON value on standard output; progress and words go to standard error.
    """
    if processes is not None:
        become_launcher(processes, out is not None or resume is not None)
    since = time.monotonic()  # a budget counts from here, before torch is loaded
    from residual.environment import check_versions

    launch = launched()
    if launch is not None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what torch says of a connection, we say in words
    check_versions()
    from residual.cli.drawing import draw_run
    from residual.cli.text import printable
    from residual.cli.words import say_result, telling
    from residual.errors import ResidualError, UsageError, argument
    from residual.runs.folder import RUN, find_run
    from residual.training.extending import extend
    from residual.training.progress import Listener, Silent
    from residual.training.tensorboard import Board
    from residual.training.train import resume as go_on
    from residual.training.train import train as begin

    changes = asked(
        set,
        **{"from": from_},
        data=data,
        epochs=epochs,
        batch_size=None if batch_size == "auto" else batch_size,
        network=network,
        seed=seed,
        device=device,
        watch_test=watch_test,
        deterministic=deterministic,
        follow_links=follow_links,
        protocol=protocol,
    )
    changes += ending(recipe, protocol, changes)
    first = speaks()  # of several processes one speaks
    listener: Listener = telling(log, json, announced=True) if first else Silent()
    listener = Board(listener) if tensorboard and first else listener
    start = launch.command if launch is not None and launch.world > 1 else "residual"
    command = f"{start} " + " ".join(shlex.quote(a) for a in sys.argv[1:])
    name, done = None if resume == "last" else resume, False
    if or_resume and (resume is not None or extend_to is not None):
        raise UsageError("--or-resume is for a run at --out", "train", "leave it out: --resume goes on with a run")
    if extend_to is not None:
        if resume is None:
            raise UsageError("no run to extend was named", "--extend-to", "as in --resume RUN --extend-to 60")
        if recipe is not None or override or budget is not None or batch_size == "auto":
            what = "a run that is extended keeps its recipe, and --extend-to is its length"
            raise UsageError(what, "--extend-to", "leave RECIPE, --override, --budget and auto out")
        folder = extend(name, extend_to, set=changes, out=out, listener=listener, command=command)
    elif resume is not None:
        if budget is not None or batch_size == "auto":
            raise UsageError(
                "a run that goes on keeps its length and its batches", "train", "leave --budget and auto out"
            )
        if out is not None:
            raise UsageError(
                "--out and --resume exclude each other", "train", "leave --out away: a resumed run stays where it is"
            )
        if from_ is not None:
            what = "a run that goes on has the weights it began from in its own folder"
            raise UsageError(what, "--from", "leave it out, or start a new run")
        with suppress(ResidualError):  # where there is none, the processes hear of it together
            done = first and find_run(name).result() is not None
        folder = go_on(name, recipe=recipe, set=changes, override_safe=override, listener=listener)
    else:
        if override:
            raise UsageError("--override is for --resume", "train", "leave it out")
        at = Path(out).expanduser() if or_resume and out is not None else None
        done = first and at is not None and (at / RUN).is_file() and find_run(at).result() is not None
        folder = begin(
            recipe,
            set=changes,
            out=out,
            listener=listener,
            command=command,
            budget=budget,
            batch_size="auto" if batch_size == "auto" else None,
            or_resume=or_resume,
            since=since,
        )
    if first:
        draw_run(folder)
        say_result(folder, "json" if json else log)
    if done and log != "json":
        more = f"residual train --resume {argument(folder.path)} --extend-to EPOCHS"
        words = f"note     it was finished already, nothing was trained; longer: {more}"
        print(printable(words), file=sys.stderr if json else None)
    return 0

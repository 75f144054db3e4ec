"""The command line: parse, call one verb, and turn whatever goes wrong into one line and an exit code.

Nothing here imports torch, so `residual --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Literal

import cyclopts

from residual.cli import (
    card,
    curves,
    data,
    evaluate,
    explain,
    export,
    find_lr,
    importing,
    models,
    predict,
    processes,
    recipes,
    report,
    reproduce,
    runs,
    samples,
    study,
    tensorboard,
    train,
    tune,
)
from residual.cli.asked import JUDGING, customary
from residual.cli.text import printable
from residual.errors import ResidualError, UsageError, argument, lacks_memory
from residual.launch import launched
from residual.training.signals import own_process
from residual.version import VERSION

Shell = Literal["bash", "zsh", "fish"]

app = cyclopts.App(
    name="residual",
    help="Deep residual networks for image classification: train, resume, evaluate, predict.\n\n"
    "Exit codes: 0 done, 2 a wrong option, 3 images, 4 a model or run, 5 the disk, 6 the machine or its memory, 7 a "
    "loss that is no number, 129, 130 or 143 stopped and saved, 1 a fault of the program. What went wrong, where, and "
    "what to do about it stands in one line on standard error.",
    help_format="markdown",
    version=VERSION,
    version_flags=["--version"],
    default_parameter=cyclopts.Parameter(allow_leading_hyphen=False, allow_repeating=False, negative=()),
    end_of_options_delimiter="--",
)
for verb in (
    train.train,
    evaluate.evaluate,
    predict.predict,
    explain.explain,
    runs.runs,
    curves.curves,
    report.report,
    reproduce.reproduce,
    tensorboard.tensorboard,
    models.models,
    export.export,
    card.card,
    recipes.recipes,
    find_lr.find_lr,
    samples.samples,
    tune.tune,
):
    app.command(verb)
app.command(importing.import_, name="import")
app.command(data.data)
app.command(study.study)


@app.command
def completion(shell: Shell | None = None, /) -> int:
    """Print the completion script of a shell.

    As in `residual completion bash > ~/.local/share/bash-completion/completions/residual`.

    Parameters
    ----------
    shell
        bash, zsh or fish; without it, the shell in $SHELL.
    """
    print(app.generate_completion(shell=shell or _own_shell()))
    return 0


def _own_shell() -> Shell:
    name = os.path.basename(os.environ.get("SHELL", "bash"))
    return "zsh" if name == "zsh" else "fish" if name == "fish" else "bash"


class _Warnings(logging.Handler):
    """Notes are said once in a command, and the same warnings where it has many trainings of the same images."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()
        self.once = False

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        if (record.levelno >= logging.WARNING and not self.once) or line not in self.said:
            self.said.add(line)
            _tell(line)


def _prepare(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out, give a bare `--resume` the run it means; know `help`, `version`, `-V` and predict's `-`."""
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    elif list(arguments) in (["version"], ["-V"]):
        arguments = ["--version"]
    given: list[str] = []
    debug = closed = False
    for place, word in enumerate(arguments):
        closed = closed or word == "--"
        if word == "--debug" and not closed:
            debug = True
            continue
        following = arguments[place + 1 : place + 2]
        if word == "--resume" and not closed and (not following or following[0].startswith("-")):
            word = "--resume=last"
        if word == "-" and given[:1] == ["predict"]:
            word = predict.STANDARD_INPUT  # the parser takes it for an option
        given.append(word)
    return given, debug


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is on standard error, in one line."""
    tokens, debug = _prepare(arguments)
    log = logging.getLogger("residual")
    if not log.handlers:
        log.addHandler(_Warnings())
        log.propagate = False
    for handler in log.handlers:
        if isinstance(handler, _Warnings):
            handler.said.clear()
            handler.once = tokens[:1] in (["tune"], ["study"], ["reproduce"])
    log.setLevel(logging.INFO)  # a note that something takes long
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its own cache folder
    try:
        _refuse_many(tokens)
        with own_process():
            code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except Exception as error:
        if debug and not isinstance(error, BrokenPipeError):
            raise
        return _explain(error, tokens)
    except SystemExit as error:
        if error.code == 130:  # so cyclopts ends where a command is interrupted
            return _say(_STOPPED, 130)
        _drop_output()  # so does rich where the reader of a help page went away
        return 0
    except KeyboardInterrupt:
        return _say(_STOPPED, 130)


_STOPPED = "stopped by SIGINT (residual): nothing is left half done, give the command again"
_SHARED = (
    "seeds",
    "degradation",
    "units",
    "shortcuts",
    "momentum",
    "batchnorm",
    "dropout",
    "initialisation",
    "seed001",
)
"""The studies whose runs are those of all processes of a launcher."""


def _refuse_many(tokens: Sequence[str]) -> None:
    """Of several processes of a launcher only those that share one run know what to do; the others would do it twice.

    Raises:
        UsageError: another command than those.
    """
    launch = launched()
    shares = list(tokens[:1]) == ["train"] or (list(tokens[:1]) == ["study"] and tokens[1:2] and tokens[1] in _SHARED)
    if launch is not None and launch.world > 1 and not shares:
        what = f"a launcher has started {launch.world} processes, and they share a training alone"
        raise UsageError(what, f"residual {' '.join(tokens[:1])}".strip(), "give this command without the launcher")


def _explain(error: Exception, tokens: Sequence[str]) -> int:
    """One line for whatever went wrong, and its exit code."""
    match error:
        case cyclopts.CycloptsError():
            return _say(_usage(error, tokens), 2)
        case ResidualError():
            return _say(str(error), error.exit_code)
        case BrokenPipeError():
            # The reader went away, as in `residual runs | head`; that is no failure of ours.
            _drop_output()
            return 0
        case ImportError() if "failed to map segment" in str(error):
            return _say("out of memory while the libraries were loaded (ulimit -v): raise the limit", 6)
        case ImportError():
            what = f"{error.name or 'a library'} cannot be imported: {error}"
            remedy = "install it again: `make install`, or `pip install -e .` in the checkout"
            return _say(f"{what} ({sys.executable}): {remedy}", 6)
        case OSError():
            if error.filename is None:
                _drop_output()
            where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "standard output"
            reason = (error.strerror or type(error).__name__).lower()
            if error.errno == errno.ENAMETOOLONG:
                return _say(f"{reason} ({where[:100]}...): check the name", 2)
            return _say(f"{reason} ({where}): check the disk and the permissions", 5)
        case RuntimeError() if "home directory" in str(error):
            return _say("no home folder is known for a name that begins with ~ (path): write the path in full", 2)
        case _ if lacks_memory(error):
            return _say(_too_large(tokens), 6)
        case RuntimeError() if (told := _of_torch(error, tokens)) is not None:
            return _say(told, 6)
    return _say(f"{type(error).__name__}: {error} (a fault of the program): run again with --debug and report it", 1)


_LOST = ("CUDA error", "CUDA unknown error", "cuDNN error", "HIP error", "MPS backend")
_VARIES = ("does not have a deterministic implementation", "not deterministic because")
_GOES_ON = {"train": "--resume", "tune": "--study"} | dict.fromkeys(("study", "reproduce"), "the same command")
_COMPILER = ("torch._inductor", "torch._dynamo", "triton")


def _of_torch(error: RuntimeError, tokens: Sequence[str]) -> str | None:
    """The line for a GPU that failed, or cannot do what is asked of it; None for other errors of torch."""
    text = str(error).strip() or type(error).__name__
    said = " ".join(text.splitlines()[0].split(". ")[0].split())[:200]
    if type(error).__module__.startswith(_COMPILER):
        return f"torch cannot compile here, {said} (compute.compile): set it to none, with --override on --resume"
    if any(sign in text for sign in _VARIES):
        return f"{said} (compute.deterministic): leave --deterministic out, or give --device cpu"
    if not any(sign in text for sign in _LOST):
        return None
    remedy = "give the command again, or with --device cpu"
    if goes_on := _GOES_ON.get(tokens[0] if tokens else ""):
        remedy = f"the last checkpoint is whole, go on with {goes_on}"
    return f"the GPU failed, {said} (--device): {remedy}"


def _too_large(tokens: Sequence[str]) -> str:
    if tokens and tokens[0] in ("train", "tune", "study", "find-lr", "reproduce"):
        return "out of memory (batch_size, network): make one of them smaller or close other programs"
    remedy = "close other programs, take smaller images or a protocol of fewer views, or --device cpu"
    return f"out of memory (residual {' '.join(tokens[:1])}): {remedy}"


def _usage(error: cyclopts.CycloptsError, tokens: Sequence[str]) -> str:
    """The parser's words in our form: what (where): what to do."""
    verb = " ".join(["residual", *_verb(tokens)])
    remedy = f"`{verb} --help` shows what it takes"
    match error:
        case cyclopts.UnknownCommandError() if tokens and tokens[0].startswith("-"):
            text = f"{tokens[0]} stands where a command is expected"
            command = next((token for token in tokens if token in app), None)
            remedy = "`residual --help` lists the commands, `residual --version` tells the version"
            if command is not None:
                remedy = f"options follow their command, as in `residual {command} {tokens[0]}`"
        case cyclopts.UnusedCliTokensError():
            unused = error.unused_tokens or []
            text = f"unexpected: {' '.join(unused)}"
            if tokens[0] in ("train", "find-lr") and unused and (unused[0][-1:] == "/" or os.path.lexists(unused[0])):
                remedy = f"photographs are named with --data {argument(unused[0])}"
        case cyclopts.UnknownOptionError() if ours := _customary(error, verb):
            text, remedy = f"unknown option: {error.token.keyword or error.token.value}", f"here it is {ours}"
        case cyclopts.RepeatArgumentError():
            text, remedy = f"{error.token.keyword} is given twice", "give it once"
        case cyclopts.MissingArgumentError() if error.argument is not None:
            name = error.keyword or error.argument.name
            text = f"{name} needs a value" if name.startswith("-") else f"no {name.upper()} was named"
        case cyclopts.ValidationError():
            text = error.exception_message or str(error)
        case _:
            words = " ".join(str(error).split())
            what, point, rest = (words if words.endswith("...") else words.rstrip(".")).partition(". ")
            rest = rest.replace(". Did", "; did").replace("? Available", "? available")
            text, remedy = (what, rest) if point else (what, remedy)
            text, remedy = text[:1].lower() + text[1:], remedy[:1].lower() + remedy[1:]
    return f"{text} ({verb}): {remedy}"


def _verb(tokens: Sequence[str]) -> list[str]:
    """The words that name a command: `data`, `check`."""
    found: list[str] = []
    here = app
    for token in tokens[:2]:
        if token.startswith("-") or token not in here:
            break
        found.append(token)
        here = here[token]
    return found


def _customary(error: cyclopts.UnknownOptionError, verb: str) -> str | None:
    """What an option of other tools is called here, where the command has it."""
    name, command = error.token.keyword or error.token.value, verb.removeprefix("residual ")
    if command in JUDGING:
        return customary(name, command)
    ours = customary(name)
    names = {name for one in error.argument_collection for name in one.names}
    trains = "--network" in names or "--out" in names  # of others, --set is not that of a recipe
    return ours if ours is not None and trains and ours.split()[0] in names else None


def _say(line: str, code: int) -> int:
    _tell(f"error: {line}")
    return code


def _tell(line: str) -> None:
    """One line on standard error, whatever the line holds and whether anyone can read it."""
    with contextlib.suppress(OSError):
        print(printable(" ".join(line.split())), file=sys.stderr, flush=True)


def _drop_output() -> None:
    """Let what is still to be written vanish, so that the end of the process does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The entry point of the `residual` command."""
    processes.entered()
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a closed standard stream: no file of a run may come to stand in its place
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal tells what it can show; in a file or a pipe every name must survive, also on Windows.
            known = {} if stream.isatty() or "PYTHONIOENCODING" in os.environ else {"encoding": "utf-8"}
            stream.reconfigure(errors="replace", **known)
    sys.exit(run(sys.argv[1:]))

"""The command line: parse, call one verb, and turn whatever goes wrong into one line and an exit code.

Nothing here imports torch, so `residual --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Literal

import cyclopts

from residual.cli import curves, evaluate, models, predict, recipes, runs, samples, train
from residual.errors import ResidualError
from residual.version import VERSION

Shell = Literal["bash", "zsh", "fish"]

app = cyclopts.App(
    name="residual",
    help="Deep residual networks for image classification: train, resume, evaluate, predict.",
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
    runs.runs,
    curves.curves,
    models.models,
    recipes.recipes,
    samples.samples,
):
    app.command(verb)


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
    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


def _prepare(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out, and give a bare `--resume` the run it means."""
    given, debug, closed = [], False, False
    for place, argument in enumerate(arguments):
        closed = closed or argument == "--"
        if argument == "--debug" and not closed:
            debug = True
            continue
        following = arguments[place + 1 : place + 2]
        if argument == "--resume" and not closed and (not following or following[0].startswith("-")):
            argument = "--resume=last"
        given.append(argument)
    return given, debug


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is on standard error, in one line."""
    tokens, debug = _prepare(arguments)
    log = logging.getLogger("residual")
    if not log.handlers:
        log.addHandler(_Warnings())
        log.propagate = False
    try:
        code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except cyclopts.CycloptsError as error:
        if debug:
            raise
        return _say(" ".join(str(error).split()), 2)
    except ResidualError as error:
        if debug:
            raise
        return _say(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader went away, as in `residual runs | head`; that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _say("stopped (SIGINT)", 130)
    except MemoryError:
        return _say("out of memory: lower batch_size or close other programs", 6)
    except Exception as error:
        if debug:
            raise
        return _say(
            f"{type(error).__name__}: {error} (a fault of the program): run again with --debug and report it", 1
        )


def _say(line: str, code: int) -> int:
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return code


def main() -> None:
    """The entry point of the `residual` command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))

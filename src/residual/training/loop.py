"""The loop: tell what happened, evaluate if due, save if due, take a step.

The lines of a step are written and the evaluation done *before* its checkpoint, and both remember the
step they were done at, so an interruption anywhere repeats nothing and leaves nothing out.
"""

from __future__ import annotations

from residual.errors import Interrupted, argument
from residual.training.session import Session
from residual.training.signals import is_command


def run_loop(session: Session) -> None:
    """Train until the last step.

    Raises:
        Interrupted: a signal came; the state of this very step is saved.
        NonFiniteError: the weights were left as they were; nothing non-finite is saved.
    """
    state = session.state
    while True:
        session.report()
        session.evaluate()
        stop = session.heard()
        if stop and state.step < session.end:
            session.save()
            session.ranks.meet()  # a launcher ends all where one ends, and the first of them is still saving
            raise _interrupted(session, stop)
        session.save_if_due()
        if stop and session.journal.evaluated < session.end:
            session.ranks.meet()
            raise _interrupted(session, stop)
        if state.step >= session.end:
            return
        session.take_step()


def _interrupted(session: Session, number: int) -> Interrupted:
    name = session.signals.name(number)
    step, total, path = session.state.step, session.total, session.folder.path
    return Interrupted(
        f"stopped by {name} at step {step:,} of {total:,}, all of it saved",
        path,
        f"residual train --resume {argument(path)}" if is_command() else f"residual.resume({str(path)!r}) goes on",
        number,
    )

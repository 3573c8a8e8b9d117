"""`soma`, with something in it changed: `python -m tests.faults.altered worker`.

- SOMA_FREEZE_AT=worker.decided:20 stops the process (SIGSTOP) when it comes to that failpoint for the twentieth time.
- SOMA_DECIDER=contrary makes it a release that decides otherwise: it refuses every second message, and gives models longer.
- SOMA_SETTLE_SECONDS=2 lets a gateway use new partitions for keyed ids after two seconds.
"""

import os
import signal
from datetime import timedelta
from functools import partial
from itertools import count

from msgspec.structs import replace

from commands import session
from commands.decision import Refusal
from commands.ledger import Decision
from commands.situation import State
from ops import failpoints
from schemas.types.session import PostMessage, SessionCommand

_decide, _reach = session.decide, failpoints.reach
_name, _, _times = os.environ.get("SOMA_FREEZE_AT", "").partition(":")
_visits, _last = count(1), int(_times or 1)


def contrary(state: State, command: SessionCommand) -> Decision:
    """Decisions that others can fold, and that none of them would make."""
    if isinstance(command.body, PostMessage) and command.meta.id[-1] in "02468ace":
        return Refusal("full", "This release refuses every second message.")
    meta = replace(command.meta, time=command.meta.time + timedelta(seconds=1))
    return _decide(state, replace(command, meta=meta))


def reach(name: str) -> None:
    """As the real one, and stands still at its place."""
    if name == _name and next(_visits) == _last:
        os.kill(os.getpid(), signal.SIGSTOP)
    _reach(name)


if __name__ == "__main__":
    failpoints.reach = reach
    if os.environ.get("SOMA_DECIDER") == "contrary":
        session.decide = contrary
    if seconds := os.environ.get("SOMA_SETTLE_SECONDS"):
        from gateway import app

        app.create_app = partial(app.create_app, settle=timedelta(seconds=int(seconds)))
    from ops.cli import main

    main()

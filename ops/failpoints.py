"""Named places at which a test can end a process, as a power cut would: `SOMA_FAILPOINT=worker.appended:3` for the third time there."""

import os
import signal

_name, _, _times = os.environ.get("SOMA_FAILPOINT", "").partition(":")
_countdown = iter(range(int(_times or 1) - 1, -1, -1))


def reach(name: str) -> None:
    """Ends this process by SIGKILL when the environment says so; otherwise nothing."""
    if name == _name and next(_countdown) == 0:
        os.kill(os.getpid(), signal.SIGKILL)

"""Python tools of somebody else, installed for the tests by the fixture `installed`."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def says(arguments: dict[str, Any], *, call_id: str) -> object:
    return {"arguments": arguments, "call_id": call_id, "process": os.getpid()}


def environment(arguments: dict[str, Any], *, call_id: str) -> object:
    return dict(os.environ)


def prints(arguments: dict[str, Any], *, call_id: str) -> object:
    print("junk")  # what a library may do
    os.write(1, b'{"value": "forged"}\n')
    return sys.stdin.read()


def loops(arguments: dict[str, Any], *, call_id: str) -> object:
    while True:
        pass


def eats(arguments: dict[str, Any], *, call_id: str) -> object:
    return len(bytearray(4 << 30))


def leaves(arguments: dict[str, Any], *, call_id: str) -> object:
    return sys.exit(0)


def dies(arguments: dict[str, Any], *, call_id: str) -> object:
    os._exit(3)


def raises(arguments: dict[str, Any], *, call_id: str) -> object:
    if arguments:
        raise ValueError("there is no such letter")
    raise RuntimeError("the post office burned down")


def talks(arguments: dict[str, Any], *, call_id: str) -> object:
    return "x" * 100_000


def confuses(arguments: dict[str, Any], *, call_id: str) -> object:
    return object()


def lingers(arguments: dict[str, Any], *, call_id: str) -> object:
    """Holds the pipe open, and so does a process of its own, until both are dead."""
    with Path(arguments["pipe"]).open("w") as pipe:
        subprocess.Popen(["/bin/sleep", "600"], stdout=pipe)
        pipe.write("x")
        pipe.flush()
        time.sleep(600)
    return None

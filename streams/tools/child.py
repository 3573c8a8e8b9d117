"""The process in which a Python tool runs: `python -m streams.tools.child ENTRY_POINT MEMORY_BYTES MAX_BYTES`.

A line of JSON comes in for a call (`id`, `arguments`, `seconds`), a line goes out: `value`, or `error` with `fault`; `last` says that this
process takes no further call. Only what every call needs is imported: the start of this process is part of a first call.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from math import ceil
from typing import Any, BinaryIO

QUOTED = 4_096
"""Characters of an exception's message that are passed on."""
Answer = dict[str, Any]
Tool = Callable[..., Any]


class _Broken(Exception):
    """The tool cannot be loaded."""


def main(entry_point: str, memory_bytes: int, max_bytes: int) -> None:
    """Answers calls until its input ends."""
    requests, answers = _pipes()
    _limit(memory_bytes)
    tool: Tool | None = None
    for line in requests:
        request = json.loads(line)
        _limit_processor(request["seconds"])
        try:
            tool = tool or _loaded(entry_point)
            answer = _answer(tool, request, max_bytes)
        except _Broken as error:
            answer = {"error": str(error), "fault": True, "last": True}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if answer.get("last"):
            return


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Where requests come from and answers go. What the tool reads and prints is cut off from both."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, answers


def _limit(memory_bytes: int) -> None:
    """No more memory than this, and no core dump with what it held."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _limit_processor(seconds: float) -> None:
    """A call that goes on without its parent's clock ends by the processor time that it uses."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft, (_, hard) = ceil(used.ru_utime + used.ru_stime + seconds) or 1, resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _loaded(entry_point: str) -> Tool:
    found = list(entry_points(group="soma.tools", name=entry_point))
    if not found:
        raise _Broken(f"no installed package has the entry point {entry_point} in the group soma.tools: install it beside the worker")
    try:
        tool: Tool = found[0].load()
    except Exception as error:
        raise _Broken(f"the entry point {entry_point} cannot be loaded: {_said(error)}") from error
    return tool


def _answer(tool: Tool, request: dict[str, Any], max_bytes: int) -> Answer:
    try:
        value = json.dumps(tool(request["arguments"], call_id=request["id"]), allow_nan=False, ensure_ascii=False)
    except MemoryError:
        return {"error": "the tool used more memory than it may", "fault": True, "last": True}
    except SystemExit:
        return {"error": "the tool ended its process", "fault": True, "last": True}
    except ValueError as error:  # the contract: arguments that a model can mend
        return {"error": str(error)[:QUOTED] or "ValueError", "fault": False}
    except Exception as error:  # noqa: BLE001 - whatever a foreign function raises
        return {"error": _said(error), "fault": True}
    if len(value.encode(errors="replace")) > max_bytes:
        return {"error": f"the result is longer than {max_bytes} bytes", "fault": False}
    return {"value": value}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:QUOTED]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

"""Tools that are Python functions: entry points of the group `soma.tools`, `def tool(arguments: dict, *, call_id: str) -> JSON value`.

A ValueError tells the model what to mend; any other exception counts as a failure of the tool. Functions run in processes of their own,
with bounded time, memory and output and without our environment; a process that ended a call well waits for the next one.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Any

import msgspec

from ops.embedded.process import end_with_parent
from schemas.types.tool import Definition
from schemas.types.tool import Python as Place
from streams.tools.running import Call, Result, Ways, failed, late

PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")
"""What a tool sees of our environment."""
KEPT_WARM = 16
"""Processes that wait for calls of one tool, at most: fewer than its calls at once, and a busy tool starts an interpreter a call."""
IDLE_SECONDS = 60.0
"""A process that waits so long for a call is ended, so that as many stay as the last minute took."""
ENDING_SECONDS = 1.0
_ESCAPES = 4
"""Bytes of JSON that one byte of a result may take."""


class Python:
    """Runs calls in child processes, one call at a time each."""

    def __init__(self, definition: Definition, place: Place, ways: Ways) -> None:
        self._entry_point, self._ways = place.entry_point, ways
        self._warm_places = min(definition.concurrency, KEPT_WARM)
        self._warm: dict[Process, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[int]] = set()

    async def run(self, call: Call) -> Result:
        child: Process | None = None
        usable = False
        try:
            async with asyncio.timeout(call.seconds):
                child = self._take() or await self._start()
                answer = await _asked(child, call)
            usable = answer is not None and not answer.get("last", False)
            return _result(answer) if answer else await self._died(child)
        except TimeoutError:
            return late(call)
        except UnicodeEncodeError:
            return failed("the arguments hold text that is not Unicode")
        except OSError as error:
            return failed(f"no process can be started here: {error}", retry=True)
        finally:
            if child:
                self._give_back(child, usable)

    async def status(self, call_id: str) -> Result | None:
        """None: a function keeps no record of its calls."""
        return None

    async def close(self) -> None:
        while child := self._take():
            self._end(child)
        if self._ending:
            await asyncio.wait(self._ending, timeout=ENDING_SECONDS)

    def _take(self) -> Process | None:
        """The one that was used last, so that those which are not needed come to their end."""
        while self._warm:
            child, ending = self._warm.popitem()
            ending.cancel()
            if child.returncode is None:
                return child
        return None

    def _give_back(self, child: Process, usable: bool) -> None:
        if usable and len(self._warm) < self._warm_places:
            self._warm[child] = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._retire, child)
        else:
            self._end(child)

    def _retire(self, child: Process) -> None:
        del self._warm[child]
        self._end(child)

    def _end(self, child: Process) -> asyncio.Task[int]:
        """Kills the child with all that it started: it leads a process group of its own."""
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        ending = asyncio.create_task(child.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def _died(self, child: Process) -> Result:
        ending = self._end(child)
        await asyncio.wait({ending}, timeout=ENDING_SECONDS)
        how = "used too much processor time" if child.returncode == -signal.SIGXCPU else f"ended with code {child.returncode}"
        return failed(f"the tool's process {how}", retry=True, fault=True, unsure=True)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "streams.tools.child"),
            *(self._entry_point, str(self._ways.memory_bytes), str(self._ways.max_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={name: value for name in PASSED_ON if (value := os.environ.get(name))},
            cwd="/",
            limit=self._ways.max_bytes * _ESCAPES,
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGKILL),
        )


async def _asked(child: Process, call: Call) -> dict[str, Any] | None:
    """What the child answers; None when it ends instead, or says what is no answer."""
    assert child.stdin and child.stdout
    request = msgspec.json.encode({"id": call.id, "arguments": call.arguments, "seconds": call.seconds})
    with suppress(ConnectionError, ValueError, msgspec.DecodeError):  # ValueError: a line without an end
        child.stdin.write(request + b"\n")
        await child.stdin.drain()
        line = await child.stdout.readline()
        return msgspec.json.decode(line, type=dict[str, Any]) if line else None
    return None


def _result(answer: dict[str, Any]) -> Result:
    if isinstance(value := answer.get("value"), str):
        return Result("ok", value.encode(errors="replace"))
    fault = bool(answer.get("fault", True))
    return failed(str(answer.get("error", "the tool gave no answer")), retry=fault, fault=fault)

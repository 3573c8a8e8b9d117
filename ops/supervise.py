"""A process of ours that is started again when it ends: its output, its pauses, its end."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from ops.embedded.process import end_with_parent

WRONG_SETTINGS = 2
"""The exit code of a process that no restart will help (`ops.settings.load`)."""
HEALTHY_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
LONGEST_LINE = 64 << 10
LOG_BYTES = 10 << 20


class WrongSettings(Exception):
    """A process ended because of its settings; its own output says which."""


async def start(*arguments: str, env: Mapping[str, str], stderr: int | None = asyncio.subprocess.STDOUT) -> asyncio.subprocess.Process:
    """`soma …` as a child with its output in a pipe. It leads a process group of its own, so that Ctrl-C reaches only us.

    `stderr` goes into the same pipe, or, with None, to where ours goes.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env={**env, "PYTHONUNBUFFERED": "1"},
        process_group=0,
        preexec_fn=end_with_parent(signal.SIGTERM),
    )


async def lines(output: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a child's output; a longer one than LONGEST_LINE comes in pieces."""
    rest = b""
    while chunk := await output.read(LONGEST_LINE):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


class Supervised:
    """`soma <name>`, started again after a growing pause whenever it ends by itself.

    `say` gets each line of its output, and what happens to it; its output also goes to `log`.
    """

    def __init__(self, name: str, env: Mapping[str, str], log: Path, say: Callable[[str], None]) -> None:
        self.name = name
        self._env, self._log, self._say = env, log, say
        self._process: asyncio.subprocess.Process | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        if self._running:
            self._running.cancel()
            with suppress(asyncio.CancelledError, WrongSettings):
                await self._running

    async def failed(self) -> None:
        """Returns never; raises WrongSettings when the process ended because of its settings."""
        assert self._running
        await asyncio.shield(self._running)

    async def _keep_running(self) -> None:
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            code = await self._run()
            if code == WRONG_SETTINGS:
                raise WrongSettings(f"{self.name} cannot run with these settings; what is wrong with them stands above.")
            if time.monotonic() - started >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            self._say(f"ended with code {code}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run(self) -> int:
        """One life of the process, to its end; when cancelled, ends it."""
        self._process = process = await start(self.name, env=self._env)
        output = asyncio.create_task(self._copy(process))
        try:
            return await process.wait()
        finally:
            await _end(process)
            with suppress(TimeoutError):  # a child of the child may hold the pipe
                async with asyncio.timeout(5):  # `wait_for` of Python 3.11 may lose a cancellation
                    await output

    async def _copy(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with closing(RotatingFileHandler(self._log, maxBytes=LOG_BYTES, backupCount=1)) as file:
            async for line in lines(process.stdout):
                file.emit(logging.makeLogRecord({"msg": line}))
                self._say(line)


async def _end(process: asyncio.subprocess.Process, timeout: float = 15.0) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()

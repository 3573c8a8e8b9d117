"""The processes under test: the real ones, and what faults do to them."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ops.embedded.process import POLL_SECONDS, end_with_parent, tail
from ops.settings import Settings

ROOT = Path(__file__).parents[2]
SOMA, ALTERED = "ops.cli", "tests.faults.altered"
READY_SECONDS = 100.0
"""Longer than anything takes that works, on a machine that has other things to do."""


class Process:
    """One process under test. Every life of it writes to the same log."""

    def __init__(self, role: str, env: Mapping[str, str], log: Path) -> None:
        self.role, self.log = role, log
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.lives = self.gave_up = 0
        """How many lives it had, and how many of them it ended itself."""
        self.endings: list[int] = []
        """The exit codes of the lives that ended since it is kept."""

    @property
    def pid(self) -> int:
        """Of its present life."""
        assert self._process, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, *, module: str = SOMA, **env: str) -> None:
        """One life, of `soma` or of another program that runs it; `env` is added for this life alone."""
        self.lives += 1
        with self.log.open("ab") as output:
            output.write(f"--- life {self.lives} of {self.role} {env or ''}\n".encode())
            output.flush()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, self.role),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**self._env, **env},
                process_group=0,
                preexec_fn=end_with_parent(signal.SIGKILL),
            )

    def keep(self, lives: Iterable[Mapping[str, str]] = (), ended: Callable[[], object] = lambda: None) -> None:
        """Start it, and again whenever it ends, as a supervisor would: first with each of `lives` as arguments, then with none.

        `ended` is called at the end of each.
        """
        self.endings = []
        self._keeper = asyncio.create_task(self._keep(lives, ended))

    @property
    def kept(self) -> bool:
        return self._keeper is not None

    async def _keep(self, lives: Iterable[Mapping[str, str]], ended: Callable[[], object]) -> None:
        for arguments in chain(lives, repeat({})):
            await self.start(**arguments)
            self.endings.append(await self.ended())
            self.gave_up += self.endings[-1] >= 0
            ended()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process, "not started"
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT … Nothing happens to one that has ended."""
        assert self._process, "not started"
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, as its supervisor would; it is not started again."""
        await self._let_go()
        if self.running:
            self.send(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended(), 20)
        await self.destroy()

    async def destroy(self) -> None:
        """End it whatever it does."""
        await self._let_go()
        if self.running:
            self.kill()
            await self.ended()

    async def frozen(self) -> None:
        """Returns when it is stopped, by itself or by a signal."""
        assert self._process
        stat = Path(f"/proc/{self._process.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", f"{self.role} stands still")

    def written(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def owned(self) -> set[int]:
        """The sessions' partitions that a worker said it owns."""
        said = re.findall(r"own partitions \[([\d, ]*)\] of soma\.session\.commands", self.written().rpartition("--- life")[2])
        return {int(number) for number in said[-1].split(",") if number.strip()} if said else set()

    async def _let_go(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None


class Cluster:
    """Two workers, two executors, a projector and a gateway. Whatever it started is gone at the end. `more` goes into their environment."""

    def __init__(self, settings: Settings, directory: Path, **more: str) -> None:
        self.settings, self.directory, self.trials = settings, directory, 0
        self._more = more
        self.url = f"http://127.0.0.1:{settings.gateway_port}"
        self.gateway, self.projector = self._process("gateway"), self._process("projector")
        self.executors = [self._process("executor", str(number)) for number in (1, 2)]
        self.workers = [self._process("worker", str(number)) for number in (1, 2)]

    @property
    def processes(self) -> list[Process]:
        return [self.gateway, self.projector, *self.workers, *self.executors]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.gather(*[process.destroy() for process in self.processes])

    async def settle(self, workers: int = 2, executors: int = 0) -> None:
        """Everything runs, kept by a supervisor, with so many workers and executors; returns when the gateway says it is well."""
        for process in [self.gateway, self.projector, *self.workers[:workers], *self.executors[:executors]]:
            if not process.kept:
                await process.destroy()
                process.keep()
        await asyncio.gather(*[process.stop() for process in (*self.workers[workers:], *self.executors[executors:])])
        await until(lambda: self.owners() == workers, f"{workers} workers own everything")
        await self.healthy()

    def gave_up(self) -> int:
        """How often a process decided to end and be started anew."""
        return sum(process.gave_up for process in self.processes)

    def owners(self) -> int:
        """How many workers share the partitions, if each partition has one owner; else 0."""
        owned = [worker.owned() for worker in self.workers if worker.running]
        everything = set(range(self.settings.kafka_cfg_num_partitions))
        whole = sum(map(len, owned)) == len(everything) and set().union(*owned) == everything
        return sum(map(bool, owned)) if whole else 0

    async def healthy(self) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:
            deadline = time.monotonic() + READY_SECONDS
            answer = "nothing"
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    response = await client.get("/health")
                    answer = response.text
                    if response.json().get("status") == "ok":
                        return
                await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"the gateway was not healthy within {READY_SECONDS:.0f} s: {answer}\n{tail(self.gateway.log)}")

    def logs(self) -> dict[str, str]:
        return {process.log.stem: tail(process.log, 60) for process in self.processes if process.log.exists()}

    def _process(self, role: str, number: str = "") -> Process:
        return Process(role, {**environment(self.settings), **self._more}, self.directory / f"{role}{number}.log")


def environment(settings: Settings) -> dict[str, str]:
    """What a process of this platform sees: its settings, and of our environment only what it takes to run."""
    ours = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    theirs = {name.upper(): _written(value) for name, value in settings.model_dump(exclude_unset=True).items() if value is not None}
    return {**ours, **theirs, "PYTHONUNBUFFERED": "1"}


async def until(true: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait for what other processes bring about. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(POLL_SECONDS)


def _written(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)

"""Callers who use the API as its documentation says: each operation has an Idempotency-Key and is repeated with it until it is settled.

What they did, and what they were told, is a journal. Everything random comes from one seed.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from gateway.identity import START, command_id
from schemas.ids import partition_of
from tests.faults.cluster import until

SETTLE_SECONDS = 60.0
"""So long an operation is repeated; then it stays unknown."""
ANSWER_SECONDS = 10.0
PAUSE = (0.05, 0.3)
"""Between tries, and between operations, in seconds: callers who never stop would leave no time for the processes to come back."""
Kind = Literal["start", "messages", "cancel", "close", "read"]
WRITES: frozenset[Kind] = frozenset({"start", "messages", "cancel", "close"})
READS: frozenset[Kind] = frozenset({"read"})


@dataclass
class Operation:
    """One thing that a caller wants. `mark` begins its text, so that the record shows it by itself.

    `sent`: a try may have reached the log. `acknowledged`: an answer said that it is recorded. `status` is the last answer's;
    `wrong` tells of one that should not have come.
    """

    kind: Kind
    mark: str
    key: str
    session: str | None
    begun: float
    answered: float = 0.0
    tries: int = 0
    position: str = ""
    sent: bool = False
    acknowledged: bool = False
    settled: bool = False
    status: int = 0
    wrong: str = ""

    @property
    def done(self) -> bool:
        return self.status in (200, 201)

    @property
    def refused(self) -> bool:
        return self.status == 409

    @property
    def command(self) -> str:
        """The id that the gateway gives to its command."""
        return command_id("default", START if self.kind == "start" else f"{START}/{self.session}/{self.kind}", self.key)

    def take(self, response: httpx.Response, enough: int) -> None:
        """What an answer says of a write; one with the status `enough` settles it."""
        self.status = response.status_code
        match response.status_code:
            case 200 | 201 | 202:
                self.session, self.position = response.json()["id"], response.headers["Soma-Position"]
                self.acknowledged = True
                self.settled = self.done or self.status == enough
            case 409:
                self.acknowledged = self.settled = True
            case 429 | 503:
                self.sent |= response.json()["code"] == "outcome_unknown"
            case _:
                self.settled, self.wrong = True, f"{response.status_code}: {response.text[:300]}"


def body_of(operation: Operation, text: str) -> dict[str, Any]:
    """What is sent for it."""
    said = f"{operation.mark} {text}"
    match operation.kind:
        case "start":
            return {"model": "echo", "input": said, "metadata": {"mark": operation.mark}}
        case "messages":
            return {"input": said}
        case "cancel":
            return {"reason": operation.mark}
        case _:
            return {}


@dataclass(frozen=True)
class Fault:
    """What was done, when, and which operations feel it.

    `answers`: how long after it each partition gave the outcome of an operation that was begun after it.
    """

    name: str
    time: float
    kinds: frozenset[Kind]
    answers: dict[int, float] = field(default_factory=dict)


@dataclass
class Journal:
    """Everything that callers did, and the faults that met them."""

    seed: str
    operations: list[Operation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    settled: int = 0
    loads: int = 0

    def fault(self, name: str, kinds: frozenset[Kind] = WRITES) -> Fault:
        """A fault happens now."""
        self.faults.append(Fault(name, time.monotonic(), kinds))
        return self.faults[-1]

    def settle(self, operation: Operation) -> None:
        """It is over for its caller, with an answer or without."""
        operation.answered = time.monotonic()
        self.settled += operation.settled
        if operation.session and (operation.done or operation.refused):
            for fault in self.faults:
                if operation.begun > fault.time and operation.kind in fault.kinds:
                    fault.answers.setdefault(partition_of(operation.session), operation.answered - fault.time)

    def recoveries(self) -> dict[str, list[float]]:
        """By the name of the fault: the time from it to the first outcome of an operation begun after it, in the slowest partition."""
        found: dict[str, list[float]] = defaultdict(list)
        for fault in self.faults:
            if fault.answers:
                found[fault.name].append(max(fault.answers.values()))
        return found


class Caller:
    """Opens a session, talks, looks, ends it or leaves it, and begins again: one operation at a time."""

    def __init__(self, number: int, http: httpx.AsyncClient, journal: Journal, text: str) -> None:
        self._name = f"{journal.seed}/{journal.loads}/{number}"
        self._random = random.Random(self._name)
        self._http, self._journal, self._text = http, journal, text
        self._count = 0

    async def live(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            start = await self._write("start", None)
            said = [start] if start.acknowledged else []
            while said and not stopped.is_set() and self._random.random() < 0.8:
                if self._random.random() < 0.3:
                    await self._read(said)
                else:
                    said.append(await self._write("messages", start.session))
            if said and self._random.random() < 0.4:
                await self._write(self._random.choice(["cancel", "close"]), start.session)

    async def _write(self, kind: Kind, session: str | None) -> Operation:
        operation = await self._begin(kind, session)
        body = body_of(operation, self._text)
        enough = 202 if self._random.random() < 0.1 else 200
        headers = {"Idempotency-Key": operation.key} | ({"Prefer": "respond-async"} if enough == 202 else {})
        path = "/v1/sessions" if session is None else f"/v1/sessions/{session}/{kind}"
        async for response in self._answers(operation, self._http.build_request("POST", path, json=body, headers=headers)):
            operation.take(response, enough)
        return operation

    async def _read(self, said: list[Operation]) -> None:
        """Read the session, with the position of what was said last: all that was confirmed must be there, in order."""
        operation = await self._begin("read", said[0].session)
        position = [each.position for each in said if each.position][-1]
        expected = [each.mark for each in said if each.done]
        request = self._http.build_request("GET", f"/v1/sessions/{operation.session}", headers={"Soma-Position": position})
        async for response in self._answers(operation, request):
            operation.status, operation.settled = response.status_code, response.status_code != 503
            shown = [m["content"].split()[0] for m in response.json().get("messages", ()) if m["role"] == "user"]
            if operation.settled and [mark for mark in shown if mark in expected] != expected:
                operation.wrong = f"{response.status_code}: shows {shown} where {expected} were confirmed"

    async def _answers(self, operation: Operation, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer of each try, until the operation is settled or its time is over."""
        while not operation.settled and time.monotonic() - operation.begun < SETTLE_SECONDS:
            if operation.tries:
                await asyncio.sleep(self._random.uniform(*PAUSE))
            operation.tries += 1
            try:
                yield await self._http.send(request)
            except httpx.ConnectError:
                continue
            except httpx.TransportError:
                operation.sent = True
        self._journal.settle(operation)

    async def _begin(self, kind: Kind, session: str | None) -> Operation:
        await asyncio.sleep(self._random.uniform(*PAUSE))
        self._count += 1
        mark = f"{self._name}/{self._count}"
        operation = Operation(kind, mark, f"key-{mark}", session, time.monotonic())
        self._journal.operations.append(operation)
        return operation


class Load:
    """So many callers at once, while it is entered; it is left when all of them have settled what they were at."""

    def __init__(self, url: str, journal: Journal, *, callers: int = 20, text: str = "") -> None:
        self._url, self._callers, self._text = url, callers, text
        self.journal = journal

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        stopped = asyncio.Event()
        self.journal.loads += 1
        async with httpx.AsyncClient(base_url=self._url, timeout=ANSWER_SECONDS, limits=httpx.Limits(max_connections=None)) as http:
            callers = [Caller(number, http, self.journal, self._text) for number in range(self._callers)]
            living = [asyncio.create_task(caller.live(stopped)) for caller in callers]
            try:
                yield self
            finally:
                stopped.set()
                await asyncio.gather(*living)

    async def goes_on(self, operations: int) -> None:
        """Returns when so many more operations are settled."""
        wanted = self.journal.settled + operations
        await until(lambda: self.journal.settled >= wanted, f"{operations} operations are settled")

    async def recovers(self, fault: Fault, partitions: int) -> None:
        """Returns when each partition has answered an operation that was begun after the fault."""
        await until(lambda: len(fault.answers) == partitions, f"all partitions answer after {fault.name}")

"""What happens to every request: who sends it is found out, its body is bounded in size and time, and its own time is counted."""

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import Gate, Principal, address, shown
from gateway.origin import method, origin, template
from gateway.parts import Parts
from gateway.problems import Problem, TooLarge, Unauthenticated
from ops import metrics

DRAIN_BYTES = 8 << 20
DRAIN_SECONDS = 2.0


class Admission:
    """Lets nobody by who is not known, before any route is looked for; what there is behind it, not even a 404 tells."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        parts: Parts = scope["app"].state.parts
        said = {} if parts.sign_in.gate.required else {"Soma-Gate": "open"}
        try:
            who = await _admitted(parts.sign_in.gate, scope)
            said |= parts.rates.take(who) if who else {}
        except Unauthenticated as problem:
            return await _unknown(parts, scope, problem).response()(scope, receive, send)
        except Problem as problem:
            return await problem.response()(scope, receive, send)
        scope["soma.principal"] = who

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(said)
            await send(message)

        return await self._app(scope, receive, marked)


def _unknown(parts: Parts, scope: Scope, problem: Unauthenticated) -> Problem:
    """What is answered to somebody unknown, once that is on its way into the record: where it cannot be, another problem."""
    try:
        parts.audit.unknown(origin(scope), problem.code)
    except Problem as closed:
        return closed
    return problem


class BodyLimit:
    """Answers 413 as soon as a body is, or says that it will be, larger than `limit` bytes, and 408 when it takes longer than `seconds`."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self._app, self._limit, self._seconds = app, limit, seconds
        self._detail = f"The body is larger than {limit} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if _declared(headers) > self._limit:
            if "expect" not in headers:  # one who asks first has not sent it yet
                await _drain(receive)
            return await TooLarge(self._detail, {"Connection": "close"}).response()(scope, receive, send)
        taken, more = 0, True
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def counted() -> Message:
            nonlocal taken, more
            try:
                async with asyncio.timeout_at(deadline if more else None):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"The body did not come within {self._seconds:g} s.") from None
            taken, more = taken + len(message.get("body", b"")), message.get("more_body", False)
            if taken > self._limit:
                await _drain(receive)
                raise HTTPException(413, self._detail)  # the one kind of error that the framework hands on while it reads a body
            return message

        return await self._app(scope, counted, send)


class Measured:
    """Counts requests by route, and how long they take."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            metrics.requests.labels(method(scope), template(scope) or "none", str(status)).observe(time.perf_counter() - started)
        return None


async def _admitted(gate: Gate, scope: Scope) -> Principal | None:
    return await gate.admit(scope["method"], scope["path"], shown(Headers(scope=scope)), address(gate, scope))


def _declared(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() else 0


async def _drain(receive: Receive) -> None:
    """Take what is still coming, within bounds: a connection that is closed under a sender loses the answer too."""
    taken, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while more and taken < DRAIN_BYTES:
                message = await receive()
                taken, more = taken + len(message.get("body", b"")), message.get("more_body", False)

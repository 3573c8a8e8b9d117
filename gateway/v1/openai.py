"""The door for clients of OpenAI's API: what its two routes share."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from gateway import problems
from gateway.answers import of as problem_of
from gateway.identity import START, Home
from gateway.parts import Parts
from gateway.positions import Position
from gateway.problems import (
    Busy,
    Conflict,
    Invalid,
    NoReply,
    NotFound,
    Problem,
    Rewritten,
    TooMany,
    Unfinished,
    UnknownAgent,
    UnknownModel,
    VersionConflict,
)
from gateway.stream import HEARTBEAT_SECONDS, SEND_SECONDS
from gateway.turn import Turn
from gateway.v1.asking import Asked, digest_of
from gateway.v1.openai_shapes import Message, NewCompletion, NewResponse, OpenAIError
from gateway.v1.responses import GATE, Responses, bad, json, verbatim
from gateway.v1.shapes import INPUT_BYTES
from gateway.writer import Write
from ops.seal import KeysDown
from projections.queries import ReadModelDown
from schemas.types.session import PostMessage, Said, StartSession

SESSION_HEADER = "Soma-Session"
HEADERS = {
    SESSION_HEADER: {"description": "The session that the turn is of.", "schema": {"type": "string"}},
    "Soma-Position": {"description": "The turn's last command, to read the session with; not of a stream.", "schema": {"type": "string"}},
}
FINISHED = {"length": "length", "content_filter": "content_filter"}
"""Reasons to finish that OpenAI's clients know besides `stop`."""
HOPELESS = (Conflict, NoReply, Rewritten, Unfinished)
"""What OpenAI's clients are told not to send again by themselves: the answer would be the same, or the turn goes on."""


class Door(APIRoute):
    """A route whose errors have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except (Problem, ReadModelDown, KeysDown, RequestValidationError, HTTPException) as error:
                return refusal(error)

        return handled


def refusal(error: Problem | ReadModelDown | KeysDown | RequestValidationError | HTTPException) -> Response:
    """The problem in OpenAI's shape, with the status by which its clients know what kind it is."""
    problem = problem_of(error)
    headers = dict(problem.headers)
    if session := problem.members.get("session_id"):
        headers[SESSION_HEADER] = session
    if isinstance(problem, HOPELESS) and not isinstance(problem, Busy | VersionConflict):
        headers["x-should-retry"] = "false"
    return Response(msgspec.json.encode(fault(problem)), status(type(problem)), headers, "application/json")


def status(kind: type[Problem]) -> int:
    """OpenAI answers 400 to what is not understood, and 404 where there is no such model."""
    return 404 if issubclass(kind, UnknownModel | UnknownAgent) else 400 if issubclass(kind, Invalid) else kind.status


def fault(problem: Problem) -> dict[str, Any]:
    """OpenAI's shape of an error. With `decision` where there was one: by its id a person can look it up."""
    wrong = problem.members.get("errors") or []
    fields = "; ".join(f"{each['field'].removeprefix('body.')}: {each['problem']}" for each in wrong)
    kind = "rate_limit_error" if problem.status == TooMany.status else "server_error" if problem.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": " ".join(filter(None, (problem.detail, fields, problem.advice))),
            "type": kind,
            "param": wrong[0]["field"].removeprefix("body.") if wrong else None,
            "code": "model_not_found" if isinstance(problem, UnknownModel | UnknownAgent) else problem.code,
            **{name: problem.members[name] for name in ("decision",) if name in problem.members},
        }
    }


def answers(status_: int, about: str, example: Any, stream: str) -> Responses:
    """A good answer, for the API document."""
    content = {
        "application/json": {"example": verbatim(example)},
        "text/event-stream": {"schema": {"type": "string"}, "example": stream},
    }
    return {status_: {"description": about, "content": content, "headers": HEADERS}}


def refuses(*kinds: type[Problem]) -> Responses:
    """Bad answers, for the API document, by status. What is answered before the route is looked for has no shape of OpenAI's."""
    by_status: dict[int, list[type[Problem]]] = {}
    before = bad(problems.TooLarge)
    for kind in (*kinds, problems.Internal, problems.NothingSent, *GATE):
        by_status.setdefault(status(kind), []).append(kind)
    return {
        number: {
            "description": " · ".join(kind.title for kind in of_status),
            "model": OpenAIError,
            "content": {
                "application/json": {
                    "examples": {kind.code: {"summary": kind.title, "value": fault(kind(f"{kind.title}."))} for kind in of_status}
                },
                **before.get(number, {}).get("content", {}),
            },
        }
        for number, of_status in sorted(by_status.items())
    }


def told(messages: Sequence[Message]) -> tuple[str, tuple[Said, ...]]:
    """What the user says now, and what was said before. Raises Invalid."""
    *before, last = messages
    if last.role != "user" or not last.text:
        raise _wrong("the last message must be the user's, with a text")
    if len(last.text.encode()) > INPUT_BYTES:
        raise _wrong(f"the last message takes more than {INPUT_BYTES} bytes in UTF-8")
    return last.text, tuple(said(each.role, each.text) for each in before if each.text)


def said(role: str, text: str) -> Said:
    """A message from before the session. What OpenAI calls a developer is the system elsewhere."""
    return Said(role="system" if role == "developer" else role, content=text)


async def opened(gateway: Parts, asked: Asked, key: str) -> Home:
    """The session that this key opens. Raises NothingSent, Malformed, NotFound."""
    home = await gateway.identity.session(asked.principal.tenant, key, gateway.relations.scoped(START, asked.principal))
    await gateway.relations.check_key(asked.principal, asked.key, home)
    return home


def write(asked: Asked, home: Home, key: str, route: str, command: StartSession | PostMessage, body: NewCompletion | NewResponse) -> Write:
    """The write that begins a turn. A new session is about the `user` whom the client names."""
    principal = asked.principal
    who = principal.tenant, principal.actor, asked.policy, 0, asked.trace
    return Write(home, command, route, key, digest_of(body), *who, subject=body.user)


def name(kind: str, turn: Turn) -> str:
    """The id of a turn: its session, and the place of the command that began it."""
    return f"{kind}_{turn.session_id.replace('-', '')}_{turn.command.offset}"


def named(kind: str, id: str) -> tuple[Home, Position]:
    """The turn that an id names. Raises NotFound."""
    prefix, _, rest = id.partition("_")
    session, _, offset = rest.partition("_")
    if prefix != kind or not (offset.isascii() and offset.isdecimal()) or len(offset) > 18 or len(session) != 32:
        raise NotFound(f"There is no response {id[:128]!r}.")
    home = Home.parse(session)
    return home, Position(home.partition, int(offset))


async def ended(run: AsyncIterator[Turn | str]) -> Turn:
    """The turn once it is over. Raises as `Turns.run` does, and NoReply where the model did not have the last word."""
    turn = None
    async for item in run:
        turn = item if isinstance(item, Turn) else turn
    assert turn and turn.over, "a run goes on until its turn is over"
    if turn.failure:
        raise no_reply(turn)
    return turn


def no_reply(turn: Turn) -> NoReply:
    assert turn.failure, "only of a turn that failed"
    return NoReply(f"{turn.failure.reason} ({turn.failure.code})", session_id=turn.session_id)


def streamed(session_id: str, events: AsyncIterator[ServerSentEvent]) -> Response:
    return EventSourceResponse(events, ping=HEARTBEAT_SECONDS, send_timeout=SEND_SECONDS, sep="\n", headers={SESSION_HEADER: session_id})


def whole(document: dict[str, Any], turn: Turn) -> Response:
    return json(document, headers={SESSION_HEADER: turn.session_id, "Soma-Position": str(turn.position)})


def happened(turn: Turn) -> ServerSentEvent:
    """What tools do shows as a comment, which clients pass over: it keeps the connection awake, and people informed."""
    return ServerSentEvent(comment=turn.happened)


def data(value: Any, event: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(msgspec.json.encode(value).decode(), event=event)


def seconds(time: datetime) -> int:
    """As OpenAI writes times: in Unix seconds."""
    return int(time.timestamp())


def _wrong(problem: str) -> Invalid:
    return Invalid("The messages cannot be used.", errors=[{"field": "body.messages", "problem": problem}])

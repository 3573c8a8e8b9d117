"""OpenAI's responses: a conversation is a session, each response one of its turns, and the next request names it to go on."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Response
from sse_starlette import ServerSentEvent

from gateway.auth import Caller
from gateway.needs import Facts, needs
from gateway.parts import Gateway, Parts
from gateway.problems import (
    Busy,
    Declined,
    Ended,
    Full,
    Invalid,
    NoReply,
    NotFound,
    NotYet,
    OverBudget,
    Problem,
    ReadModelDown,
    Rewritten,
    SealDown,
    SubjectErased,
    TooManyCommands,
    Unfinished,
    VersionConflict,
)
from gateway.turn import Conversation, Turn
from gateway.v1 import openai
from gateway.v1.asking import Asked, Asking
from gateway.v1.chat import COMMON
from gateway.v1.openai import Door
from gateway.v1.openai_shapes import NewResponse
from gateway.v1.openai_shapes import Response as Shape
from gateway.v1.responses import verbatim
from gateway.v1.starting import Opening, addressed, facts, started
from gateway.writer import Write
from schemas.types.session import PostMessage

router = APIRouter(tags=["openai"], route_class=Door)
ROUTE = "POST /v1/responses"
ID = "resp_019ab3c27e1d7cc09f6a3b1de5a1c000_42"
ResponseId = Annotated[str, Path(max_length=128, description="The response's id.", examples=[ID])]
EXAMPLE = {
    "id": ID,
    "object": "response",
    "created_at": 1769860800,
    "completed_at": 1769860801,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "echo",
    "output": [
        {
            "type": "message",
            "id": ID.replace("resp", "msg"),
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "echo: hello", "annotations": [], "logprobs": []}],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 3,
    },
}
DELTA = {"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_1", "output_index": 0, "content_index": 0}
STREAM = f"event: response.output_text.delta\ndata: {verbatim(DELTA | {'delta': 'echo:', 'logprobs': []})}\n\n"


class Asker(NamedTuple):
    """What a response repeats of its request."""

    model: str
    instructions: str | None = None
    metadata: dict[str, str] | None = None
    previous: str | None = None


async def wanted_terms(body: NewResponse, caller: Caller, gateway: Gateway) -> Facts:
    """What the session would begin with, or goes on with, for the policies."""
    definition = addressed(gateway, caller.tenant, body.model).definition
    goes_on = {"session_id": openai.named("resp", body.previous_response_id)[0].id} if body.previous_response_id else {}
    return facts(definition.model, definition.tools, definition.limits) | goes_on


async def asked_for(response_id: ResponseId) -> Facts:
    """The session that a response is a turn of."""
    return {"session_id": openai.named("resp", response_id)[0].id}


@router.post(
    "/responses",
    dependencies=[needs("response.create", wanted_terms)],
    summary="Answer in a conversation",
    response_model=Shape,
    responses=openai.answers(200, "The answer, whole or as it is written", EXAMPLE, STREAM)
    | openai.refuses(
        *(*COMMON, NotFound, Busy, Ended, SubjectErased, Full, OverBudget, VersionConflict, Declined, TooManyCommands, NotYet),
        *(NoReply, Rewritten, Unfinished),
    ),
)
async def respond(body: NewResponse, asked: Asking, gateway: Gateway) -> Response:
    """OpenAI's responses, for its SDKs. `model` names a model or an agent.

    A conversation is kept by the platform: with `previous_response_id` it goes on, and the client sends only what is new.
    docs/openai.md has the parameters that are ignored or refused.
    """
    write = await (_next(gateway, asked, body) if body.previous_response_id else _first(gateway, asked, body))
    asker = Asker(body.model, body.instructions, body.metadata, body.previous_response_id)
    run = gateway.turns.run(write)
    if not body.stream:
        turn = await openai.ended(run)
        return openai.whole(document(turn, asker), turn)
    first = await anext(run)  # what prevents a turn is raised before the answer begins
    assert isinstance(first, Turn), "a turn begins with a record"
    return openai.streamed(write.home.id, _events(first, run, asker))


@router.get(
    "/responses/{response_id}",
    dependencies=[needs("response.read", asked_for)],
    summary="Read a response",
    response_model=Shape,
    responses=openai.answers(200, "The response", EXAMPLE, STREAM) | openai.refuses(NotFound, Invalid, NotYet, ReadModelDown, SealDown),
)
async def read(response_id: ResponseId, gateway: Gateway, caller: Caller) -> Response:
    """The turn as it is recorded: `in_progress` as long as it is not over."""
    home, position = openai.named("resp", response_id)
    turn = await gateway.turns.read(home, caller.tenant, position)
    summary = await gateway.reader.queries.session(home.id, caller.tenant)
    assert summary, "a turn that was read is of a session that is known"
    asker = Asker(summary.agent or summary.model, None, summary.metadata)
    return openai.whole(document(turn, asker), turn)


async def _first(gateway: Parts, asked: Asked, body: NewResponse) -> Write:
    """The start of a conversation."""
    tenant = asked.principal.tenant
    input, history = (body.input, ()) if isinstance(body.input, str) else openai.told(body.input)
    told = (openai.said("system", body.instructions),) if body.instructions else ()
    opening = Opening(input, body.labels(), (*told, *history), body.max_output_tokens)
    command = started(gateway, tenant, addressed(gateway, tenant, body.model), opening)
    key = asked.key or gateway.identity.start_key()
    home = await openai.opened(gateway, asked, key)
    return openai.write(asked, home, key, gateway.relations.scoped(ROUTE, asked.principal), command, body)


async def _next(gateway: Parts, asked: Asked, body: NewResponse) -> Write:
    """What goes on after the newest response of a conversation, on the terms of that."""
    home, position = openai.named("resp", body.previous_response_id or "")
    conversation = await gateway.turns.conversation(gateway.identity.home(home.id), asked.principal.tenant, position)
    _check(conversation, body)
    input, history = (body.input, ()) if isinstance(body.input, str) else openai.told(body.input)
    if history:
        raise _wrong("input", "the conversation is kept here: send the user's new message alone")
    key = asked.key or gateway.identity.key()
    write = openai.write(asked, home, key, ROUTE, PostMessage(input=input), body)
    return write._replace(expected_version=conversation.summary.version)


def _check(conversation: Conversation, body: NewResponse) -> None:
    """A session keeps the terms that it began with. Raises Invalid where the request says others."""
    summary, began = conversation
    agent, first = began.agent or "", began.history[0] if began.history else None
    instructions = first.content if first and first.role == "system" else None
    if body.model not in ({agent, agent.partition("@")[0]} if agent else {began.model}):
        raise _wrong("model", f"this conversation is with {agent or began.model}, and stays so")
    if body.instructions and body.instructions != instructions:
        raise _wrong("instructions", "they stay those of the conversation's first request: leave them out, or repeat them")
    if body.max_output_tokens and (began.max_tokens is None or body.max_output_tokens < began.max_tokens):
        raise _wrong("max_output_tokens", f"it stays that of the conversation's first request: {began.max_tokens}")
    if not body.labels().items() <= summary.metadata.items():
        raise _wrong("metadata", "it stays that of the conversation's first request: leave it out, or repeat it")


def document(turn: Turn, asker: Asker) -> dict[str, Any]:
    """OpenAI's Response."""
    status, output = _status(turn), [_item(turn, turn.text)] if turn.over and turn.texts else []
    return {
        "id": openai.name("resp", turn),
        "object": "response",
        "created_at": openai.seconds(turn.began_at),
        "completed_at": openai.seconds(turn.last_at) if status == "completed" else None,
        "status": status,
        "error": {"code": "server_error", "message": f"{turn.failure.reason} ({turn.failure.code})"} if turn.failure else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": asker.instructions,
        "metadata": asker.metadata or {},
        "model": asker.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": asker.previous,
        "tool_choice": "auto",
        "tools": [],
        "usage": _usage(turn) if turn.over else None,
    }


def _status(turn: Turn) -> str:
    if not turn.over:
        return "in_progress"
    return "failed" if turn.failure else "incomplete" if turn.finish_reason == "length" else "completed"


def _item(turn: Turn, text: str, status: str | None = None) -> dict[str, Any]:
    status = status or ("incomplete" if _status(turn) == "incomplete" else "completed")
    return {"type": "message", "id": openai.name("msg", turn), "status": status, "role": "assistant", "content": [_part(text)]}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(turn: Turn) -> dict[str, Any]:
    return {
        "input_tokens": turn.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": turn.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }


async def _events(first: Turn, run: AsyncIterator[Turn | str], asker: Asker) -> AsyncIterator[ServerSentEvent]:
    """The events of OpenAI's stream, in its order: the response, its one message, the message's one text."""
    say, turn = Events(first), first
    yield say.lifecycle("created", document(turn, asker))
    yield say.lifecycle("in_progress", document(turn, asker))
    yield say.item("added", _item(turn, "", "in_progress") | {"content": []})
    yield say.text("content_part.added", part=_part(""))
    try:
        async for item in run:
            if isinstance(item, str):
                yield say.text("output_text.delta", delta=item, logprobs=[])
            else:
                turn = item
                yield openai.happened(turn)
    except Problem as problem:
        failed = document(turn, asker) | {"status": "failed", "error": {"code": "server_error", "message": problem.detail}}
        yield say.lifecycle("failed", failed)
        return
    yield say.text("output_text.done", text=turn.text, logprobs=[])
    yield say.text("content_part.done", part=_part(turn.text))
    yield say.item("done", _item(turn, turn.text))
    yield say.lifecycle(_status(turn), document(turn, asker))


class Events:
    """Numbers a stream's events."""

    def __init__(self, turn: Turn) -> None:
        self._message, self._number = openai.name("msg", turn), -1

    def lifecycle(self, kind: str, response: dict[str, Any]) -> ServerSentEvent:
        return self._event(kind, response=response)

    def item(self, kind: str, item: dict[str, Any]) -> ServerSentEvent:
        return self._event(f"output_item.{kind}", output_index=0, item=item)

    def text(self, kind: str, **more: Any) -> ServerSentEvent:
        return self._event(kind, item_id=self._message, output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> ServerSentEvent:
        self._number += 1
        return openai.data({"type": f"response.{kind}", "sequence_number": self._number, **more}, event=f"response.{kind}")


def _wrong(field: str, problem: str) -> Invalid:
    return Invalid("The conversation cannot go on like this.", errors=[{"field": f"body.{field}", "problem": problem}])

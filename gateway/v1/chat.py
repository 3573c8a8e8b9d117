"""OpenAI's chat completions: each request is a session of its own, which records what the client says was said before."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from sse_starlette import ServerSentEvent

from gateway.auth import Caller
from gateway.needs import Facts, needs
from gateway.parts import Gateway
from gateway.problems import (
    Exists,
    Full,
    Invalid,
    KeyReused,
    Malformed,
    NoReply,
    NotFound,
    NotJson,
    OutcomeUnknown,
    Problem,
    ReadModelDown,
    Rewritten,
    SealDown,
    TooLarge,
    TooMany,
    Unfinished,
    UnknownModel,
    UnknownTool,
)
from gateway.turn import Turn
from gateway.v1 import openai
from gateway.v1.asking import Asking
from gateway.v1.openai import FINISHED, Door
from gateway.v1.openai_shapes import Completion, NewCompletion
from gateway.v1.starting import Opening, addressed, facts, started

router = APIRouter(tags=["openai"], route_class=Door)
ROUTE = "POST /v1/chat/completions"
IDLE_SECONDS = 600
"""How long such a session waits to be looked at, or gone on with by its own routes: the client itself never comes back to it."""
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
ID = "chatcmpl_019ab3c27e1d7cc09f6a3b1de5a1c000_42"
EXAMPLE = {
    "id": ID,
    "object": "chat.completion",
    "created": 1769860800,
    "model": "echo",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "echo: hello", "refusal": None}, "finish_reason": "stop", "logprobs": None}
    ],
    "usage": USAGE,
}
STREAM = (
    f'data: {{"id":"{ID}","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{"content":"echo:"}}}}]}}\n\ndata: [DONE]\n\n'
)
COMMON = (Malformed, TooLarge, NotJson, Invalid, UnknownModel, KeyReused, UnknownTool, TooMany, OutcomeUnknown, ReadModelDown, SealDown)


async def wanted_terms(body: NewCompletion, caller: Caller, gateway: Gateway) -> Facts:
    """What the session would begin with, for the policies."""
    definition = addressed(gateway, caller.tenant, body.model).definition
    return facts(definition.model, definition.tools, definition.limits)


@router.post(
    "/chat/completions",
    dependencies=[needs("chat.complete", wanted_terms)],
    summary="Answer a conversation",
    response_model=Completion,
    responses=openai.answers(200, "The answer, whole or as it is written", EXAMPLE, STREAM)
    | openai.refuses(*COMMON, NotFound, Exists, Full, NoReply, Rewritten, Unfinished),
)
async def complete(body: NewCompletion, asked: Asking, gateway: Gateway) -> Response:
    """OpenAI's chat completions, for its SDKs and for chat clients. `model` names a model or an agent.

    The request becomes a session of its own, in whose record the earlier messages stand as what the client says was said.
    Tools of an agent run here, within the request. docs/openai.md has the parameters that are ignored or refused.
    """
    tenant = asked.principal.tenant
    input, history = openai.told(body.messages)
    idle = min(IDLE_SECONDS, gateway.settings.session_idle_seconds)
    opening = Opening(input, body.labels(), history, body.bound, idle)
    command = started(gateway, tenant, addressed(gateway, tenant, body.model), opening)
    key = asked.key or gateway.identity.start_key()
    home = await openai.opened(gateway, asked, key)
    run = gateway.turns.run(openai.write(asked, home, key, gateway.relations.scoped(ROUTE, asked.principal), command, body))
    if not body.stream:
        turn = await openai.ended(run)
        return openai.whole(_whole(turn, body.model), turn)
    first = await anext(run)  # what prevents a turn is raised before the answer begins
    assert isinstance(first, Turn), "a turn begins with a record"
    return openai.streamed(home.id, _chunks(first, run, body))


async def _chunks(first: Turn, run: AsyncIterator[Turn | str], body: NewCompletion) -> AsyncIterator[ServerSentEvent]:
    turn = first
    yield _chunk(turn, body, {"role": "assistant", "content": ""})
    try:
        async for item in run:
            if isinstance(item, str):
                yield _chunk(turn, body, {"content": item})
            else:
                turn = item
                yield openai.happened(turn)
        if turn.failure:
            raise openai.no_reply(turn)
    except Problem as problem:
        yield openai.data(openai.fault(problem))
        return
    yield _chunk(turn, body, {}, _finish(turn))
    if body.stream_options and body.stream_options.include_usage:
        yield openai.data({**_head(turn, body.model, "chat.completion.chunk"), "choices": [], "usage": _usage(turn)})
    yield ServerSentEvent("[DONE]")


def _whole(turn: Turn, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": turn.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _finish(turn), "logprobs": None}
    return {**_head(turn, model, "chat.completion"), "choices": [choice], "usage": _usage(turn)}


def _chunk(turn: Turn, body: NewCompletion, delta: dict[str, str], finish: str | None = None) -> ServerSentEvent:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return openai.data({**_head(turn, body.model, "chat.completion.chunk"), "choices": [choice]})


def _head(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    return {"id": openai.name("chatcmpl", turn), "object": kind, "created": openai.seconds(turn.began_at), "model": model}


def _finish(turn: Turn) -> str:
    return FINISHED.get(turn.finish_reason, "stop")


def _usage(turn: Turn) -> dict[str, int]:
    read, written = turn.input_tokens, turn.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

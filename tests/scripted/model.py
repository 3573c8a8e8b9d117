"""A model that says what each test wrote down for it: a server that speaks OpenAI's chat completions, on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from ops.embedded.process import free_port


@dataclass(frozen=True)
class Says:
    """One reply: some text, and the calls that it asks for, as (name, arguments as the model writes them).

    What is `held` comes once it is set: all but the text.
    """

    content: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    held: asyncio.Event | None = None


@dataclass
class ScriptedModel:
    """`scripts`: by the first message of a session, what it says turn by turn; then it says "done". `asked`: every request, likewise."""

    url: str
    scripts: dict[str, list[Says]] = field(default_factory=dict)
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def answer(self, request: Request) -> StreamingResponse:
        body = await request.json()
        about = next(message["content"] for message in body["messages"] if message["role"] == "user")
        self.asked.setdefault(about, []).append(body)
        turn, script = sum(message["role"] == "assistant" for message in body["messages"]), self.scripts[about]
        return StreamingResponse(_stream(script[turn] if turn < len(script) else Says("done")), media_type="text/event-stream")


async def _stream(says: Says) -> AsyncIterator[str]:
    if says.content:
        yield _chunk(choices=[_choice(content=says.content)])
    if says.held:
        await says.held.wait()
    for index, (name, arguments) in enumerate(says.calls):
        function = {"name": name, "arguments": ""}
        yield _chunk(choices=[_choice(tool_calls=[{"index": index, "id": f"c{index}", "type": "function", "function": function}])])
        for start in range(0, len(arguments), 100_000):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 100_000]}}
            yield _chunk(choices=[_choice(tool_calls=[piece])])
    yield _chunk(choices=[_choice() | {"finish_reason": "tool_calls" if says.calls else "stop"}])
    yield _chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
    yield "data: [DONE]\n\n"


def _choice(**delta: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}


def _chunk(**fields: Any) -> str:
    return "data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", **fields}) + "\n\n"


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedModel]:
    """It serves, while the block runs."""
    port = free_port()
    model = ScriptedModel(f"http://127.0.0.1:{port}/v1")
    app = FastAPI()
    app.post("/v1/chat/completions", response_model=None)(model.answer)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield model
    server.should_exit = True
    await serving

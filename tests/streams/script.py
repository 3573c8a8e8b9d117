"""A model's server that does what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from ops.embedded.process import free_port


class Script:
    """An OpenAI-compatible server that does what the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.pieces = ["Hel", "lo"]
        self.hang = asyncio.Event()
        self.hangs = False
        self.asked: list[dict[str, Any]] = []
        self.dropped = asyncio.Event()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.answer)

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return Response(json.dumps({"error": {"message": f"scripted {status}"}}), status, media_type="application/json")
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self) -> AsyncIterator[str]:
        try:
            for piece in self.pieces:
                yield chunk(choices=[{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
            if self.hangs:
                await self.hang.wait()
            yield chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
            yield chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.dropped.set()
            raise


def chunk(**fields: Any) -> str:
    return "data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", **fields}) + "\n\n"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Script, str]]:
    """A script, and the base URL at which it is served."""
    scripted, port = Script(), free_port()
    server = uvicorn.Server(uvicorn.Config(scripted.app, host="127.0.0.1", port=port, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield scripted, f"http://127.0.0.1:{port}/v1"
    finally:
        scripted.hang.set()
        server.should_exit = True
        await task

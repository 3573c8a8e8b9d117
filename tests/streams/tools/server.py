"""An HTTP server on loopback that keeps a journal and does what each test tells it to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Journal:
    """What was asked of a server, and where it is. `gone` is set when a caller leaves before the answer's end, as `left` did."""

    answers: dict[str, Answer]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def says(body: str | bytes, status: str = "200 OK", **headers: str) -> Answer:
    """Answers with this."""
    content = body.encode() if isinstance(body, str) else body

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()

    return answer


async def hangs(request: Request, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def pours(request: Request, writer: asyncio.StreamWriter) -> None:
    """Answers with 100 MB, as long as somebody listens."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
    for _ in range(1_000):
        writer.write(b"x" * 100_000)
        await writer.drain()


@asynccontextmanager
async def serving(
    answers: dict[str, Answer], host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Journal]:
    """A server with these answers, by path."""
    journal = Journal(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        journal.requests.append(request)
        journal.asked.set()
        answering = asyncio.ensure_future(journal.answers[request.target.partition("?")[0]](request, writer))
        leaving = asyncio.ensure_future(reader.read())
        done, waiting = await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering not in done or answering.exception():
            journal.gone.set()
            journal.left += 1
        for task in waiting:
            task.cancel()
        writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    journal.port = server.sockets[0].getsockname()[1]
    async with server:
        yield journal


async def _read(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Request(method, target, headers, body)

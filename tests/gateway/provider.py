"""An identity provider on loopback, as far as a gateway sees one: its description, its keys, and its bad days."""

import asyncio
from typing import Any, Self

import msgspec
from joserfc.jwk import Key

from ops.embedded.process import free_port
from tests.gateway.signing import public


class Provider:
    """Serves the public halves of `keys`. `answers` replaces what an address answers; `slow` holds every answer back."""

    def __init__(self, *keys: Key) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.keys, self.asked = list(keys), list[str]()
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.slow = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.down()

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def down(self) -> None:
        if self._server:
            self._server.close()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            if self.slow:
                await asyncio.sleep(30)
            status, body = self.answers.get(path) or self._answer(path)
            writer.write(b"HTTP/1.1 %d X\r\nlocation: /elsewhere\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)))
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str) -> tuple[int, bytes]:
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"},
            "/keys": {"keys": [public(key) for key in self.keys]},
        }
        return (200, msgspec.json.encode(documents[path])) if path in documents else (404, b"")

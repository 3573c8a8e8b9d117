"""How long, and for how much, the server waits before a request's headers are there. Uvicorn itself waits for ever, and for any number."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 15.0
HEADER_BYTES = 64 << 10
"""Of the address and all headers of a request, as they are sent."""


class Impatient(HttpToolsProtocol):
    """Closes a connection on which a request is begun, or none is, for too long, and one whose headers are too large."""

    _waiting: TimerHandle | None = None
    _taken = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waited()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._taken = 0
        self._wait()

    def on_url(self, url: bytes) -> None:
        if self._fits(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._fits(len(name) + len(value) + 4):  # `: ` and the end of the line
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._waited()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def _wait(self) -> None:
        self._waited()
        self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _waited(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _fits(self, more: int) -> bool:
        self._taken += more
        if self._taken > HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
        return self._taken <= HEADER_BYTES

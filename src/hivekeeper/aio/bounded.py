"""uvicorn's HTTP connections, with bounds: how many, how large a head, and how slow a client.

uvicorn and its parser take a header of any length, and give a client any time to send it, and to
read its answer. A body is bounded already: it is read on only while somebody takes it. Knows
nothing of what is served.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTIONS: Final = 8_192
"""At once; who comes on top is hung up on, so that those who are there are served."""
HEAD_BYTES: Final = 64 * 1024
"""Of a request's first line and headers: what Rust's and nginx's servers take, about."""
HEAD_WITHIN_S: Final = 20.0
"""From a request's first byte to the end of its head."""
READ_WITHIN_S: Final = 60.0
"""What is not read so long after the end of a connection is dropped."""

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _unparsed_bytes = 0
    """Received, and not yet part of a complete head or of a body."""
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > CONNECTIONS:
            transport.close()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take some bytes."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._unparsed_bytes:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._whole()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._whole()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of the body is here."""
        self._whole()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._whole()
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _whole(self) -> None:
        self._unparsed_bytes = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Joined:
    """A transport on which two writes in one turn of the loop leave as one.

    An answer's head and its body, that is: half the system calls, and half as many wake-ups of
    whoever reads, which is a tenth of all that a small answer costs.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Write, at the end of this turn at the latest."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Write what is held, and close, whether it is read or not."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(READ_WITHIN_S, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

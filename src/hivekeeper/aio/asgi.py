"""An ASGI application answered over HTTP on sockets of ours, within our own loop.

uvicorn does the work. It gets neither signals nor logging nor the application's start and stop
to itself: those are the caller's. Binds nothing, and knows nothing of what it serves.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import uvicorn

from hivekeeper.aio.bounded import BoundedProtocol
from hivekeeper.aio.wake import Wake

_KEEP_ALIVE_S: Final = 75
"""An idle connection is kept longer than the minute that clients and proxies usually do."""
_TICK_S: Final = 1.0
"""How often the Date header is renewed."""


@asynccontextmanager
async def serve(
    app: Any, sockets: Sequence[socket.socket], *, stop_within_s: int = 5
) -> AsyncIterator[None]:
    """Answer on `sockets` while the context lasts; it begins once they listen.

    At its end no more requests are taken, those under way are finished, and the sockets closed.

    Args:
        app: An ASGI 3 application; gets no lifespan events.
        sockets: Bound already.
        stop_within_s: What is still under way then is cancelled.
    """
    server = _Server(_configuration(app, stop_within_s))
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(list(sockets)), name="http server")
        await server.listens.wait()
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- raised again below, outside the group
            failure = error
        finally:
            await server.stop()
    if failure is not None:
        raise failure


def _configuration(app: Any, stop_within_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # what clients do wrong is told to them
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=stop_within_s,
    )


class _Server(uvicorn.Server):
    """uvicorn's, as part of a program instead of as the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self._told = Wake()
        self._ended = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the loop."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self._ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    async def main_loop(self) -> None:
        """Wait to be told to stop, instead of looking ten times a second whether one was."""
        while not await self.on_tick(0):
            await self._told.wait(_TICK_S)

    async def stop(self) -> None:
        """Stop, within the time configured; safe in a task that is being cancelled."""
        self.should_exit = True
        self._told.set()
        await self._ended.wait()

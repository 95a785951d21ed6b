"""The keeper's end of its socket: who may speak, in what form, and how much. Decides nothing.

Each client has its own task and its own bounds; garbage, half lines, silence and slowness end or
delay that client alone.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hivekeeper.model import limits
from hivekeeper.model.errors import HiveError, PermissionRefusedError, TransientError, UserError
from hivekeeper.supervisor.holdings import Holdings
from hivekeeper.wire import keeper as wire
from hivekeeper.wire.keeper import (
    Changes,
    Done,
    Held,
    Hold,
    List,
    Release,
    Reply,
    Request,
    Restart,
    Shutdown,
    Welcome,
)

log = logging.getLogger(__name__)

LINGER_S: Final = 1.0
"""For a client that is refused to finish its sentence: else it might not hear why."""

SILENCE_S: Final = 60.0
"""A client that neither asks nor reads for so long is let go; it can come again."""

_CREDENTIALS: Final = struct.Struct("3i")
"""What the kernel says of the other end: pid, uid, gid."""


class Server:
    """Serves `holdings` on a listening socket.

    Args:
        holdings: Asked for everything.
        release: Of this program, for people.
        ended: Called when a shutdown is done.
    """

    def __init__(self, holdings: Holdings, *, release: str, ended: Callable[[], None]) -> None:
        self._holdings, self._release, self._ended = holdings, release, ended
        self._clients = 0

    async def serve(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Answer clients, each in a task of `tasks`, until cancelled."""

        def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._clients >= 2 * limits.KEEPER_CLIENTS:
                writer.transport.abort()  # not even time to say why
            else:
                self._clients += 1
                tasks.create_task(self._meet(reader, writer), name="client")

        server = await asyncio.start_unix_server(
            come, sock=listening, limit=limits.KEEPER_LINE_BYTES
        )
        async with server:
            await server.serve_forever()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, TimeoutError)  # or it may as well be
        try:
            with contextlib.suppress(*gone):
                try:
                    self._admit(writer)
                    await self._talk(reader, writer)
                except HiveError as error:
                    await _say(writer, wire.refusal(error))
                    await _linger(reader, writer)
        finally:
            self._clients -= 1
            writer.close()

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        """Refuse who is not to speak here."""
        end: socket.socket = writer.get_extra_info("socket")
        peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(peer)
        if uid not in (0, os.geteuid()):
            raise PermissionRefusedError(
                f"cannot talk to the keeper as user {uid}: it is user {os.geteuid()}'s"
            )
        if self._clients > limits.KEEPER_CLIENTS:
            raise TransientError("cannot talk to the keeper: it has too many clients")

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = wire.read_hello(await _line(reader))
        version = wire.agree(hello.versions)
        await _say(writer, Welcome(version=version, release=self._release, pid=os.getpid()))
        while line := await _line(reader):
            request = wire.read_request(line)
            try:
                await self._answer(request, reader, writer)
            except HiveError as error:
                await _say(writer, wire.refusal(error))

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match request:
            case Hold():
                await _say(writer, Held(status=self._holdings.hold(request)))
            case Restart():
                await _say(writer, Held(status=self._holdings.restart(request.program)))
            case List():
                for status in self._holdings.status():
                    await _say(writer, Held(status=status))
                await _say(writer, Done())
            case Release():
                await self._holdings.release(request.program, logs=request.logs)
                await _say(writer, Done())
            case Changes():
                await self._tell_changes(reader, writer)
            case Shutdown():
                await self._holdings.shutdown(request.last)
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await _say(writer, Done())
                self._ended()

    async def _tell_changes(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Tell what changes until the client goes, or says anything more."""

        async def tell() -> None:
            with self._holdings.watching() as watcher, contextlib.suppress(ConnectionError):
                while True:
                    for status in await watcher.take():
                        writer.write(wire.line(Held(status=status)))
                        await writer.drain()

        async with asyncio.TaskGroup() as both:
            telling = both.create_task(tell(), name="changes")
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            telling.cancel()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return a whole line, or nothing if none will come.

    Raises:
        UserError: It is too long; what follows cannot be told apart any more.
        TimeoutError: It does not come.
    """
    try:
        async with asyncio.timeout(SILENCE_S):
            return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError as error:
        bound = limits.KEEPER_LINE_BYTES
        raise UserError(f"cannot read a request: longer than {bound} bytes") from error


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that this was all, and read on: to close now would take back what was said."""
    writer.write_eof()
    async with asyncio.timeout(LINGER_S):
        while await reader.read(limits.KEEPER_LINE_BYTES):
            pass


async def _say(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send it; raises `TimeoutError` if the other end does not read."""
    writer.write(wire.line(reply))
    async with asyncio.timeout(SILENCE_S):
        await writer.drain()


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """Give the socket in `folder`, for our own user alone; its path may be of any length."""
    path = folder / wire.SOCKET
    path.unlink(missing_ok=True)  # a killed keeper's: whoever holds the folder's lock may
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        _bind(listener, folder)
        yield listener
    path.unlink(missing_ok=True)


def _bind(listener: socket.socket, folder: Path) -> None:
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{place}/{wire.SOCKET}")
    finally:
        os.umask(before)
        os.close(place)

"""The keeper as its clients have it: `ports.Supervisor` over the keeper's socket.

Each call is a connection of its own, so that a keeper that was replaced is simply the next one's.
What the keeper refuses is raised as it meant it; a keeper that cannot be reached is a
`TransientError`.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeVar

from hivekeeper.model import limits
from hivekeeper.model.errors import PermissionRefusedError, TransientError
from hivekeeper.model.ids import Generation, ProgramId
from hivekeeper.model.program import ProgramSpec, ProgramStatus
from hivekeeper.wire import keeper as wire
from hivekeeper.wire.keeper import (
    Changes,
    Done,
    Held,
    Hello,
    Hold,
    List,
    Refused,
    Release,
    Reply,
    Request,
    Restart,
    Shutdown,
    Welcome,
)

ANSWER_S: Final = 10.0
"""The keeper answers in milliseconds, but for what it says it waits for."""

R = TypeVar("R", bound=Reply)

REACH_AGAIN_S: Final = 0.2
"""A keeper that was killed is back so soon."""


class KeeperClient:
    """A `Supervisor`: the keeper whose folder this is. Keeps nothing between calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def info(self) -> Welcome:
        """Return which keeper it is: its release, its process, and the version spoken."""
        async with self._reached(ANSWER_S) as line:
            return line.welcome

    async def hold(
        self, spec: ProgramSpec, *, wanted: bool, generation: Generation
    ) -> ProgramStatus:
        async with self._reached(ANSWER_S) as line:
            return await line.status(Hold(spec=spec, wanted=wanted, generation=generation))

    async def restart(self, program: ProgramId) -> ProgramStatus:
        async with self._reached(ANSWER_S) as line:
            return await line.status(Restart(program=program))

    async def release(self, program: ProgramId, *, logs: bool) -> None:
        async with self._reached(None) as line:
            line.ask(Release(program=program, logs=logs))
            await line.hear(Done)

    async def status(self) -> list[ProgramStatus]:
        async with self._reached(ANSWER_S) as line:
            line.ask(List())
            found = []
            while isinstance(reply := await line.hear(Held, Done), Held):
                found.append(reply.status)
            return found

    async def changes(self) -> AsyncIterator[ProgramStatus]:
        async with self._reached(None) as line:
            line.ask(Changes())
            while True:
                yield (await line.hear(Held)).status

    async def shutdown(self, last: tuple[ProgramId, ...] = ()) -> None:
        """Stop everything, those in `last` after all others, in this order; then the keeper ends.

        What was wanted stays so: the next keeper starts it.
        """
        async with self._reached(None) as line:
            line.ask(Shutdown(last=last))
            await line.hear(Done)

    @contextlib.asynccontextmanager
    async def _reached(self, answer_s: float | None) -> AsyncIterator["_Line"]:
        """Give a connection on which both sides have agreed on a version."""
        try:
            async with asyncio.timeout(answer_s):
                async with _connected(self._folder) as (reader, writer):
                    line = _Line(reader, writer)
                    await line.agree()
                    yield line
        except PermissionError as error:
            raise PermissionRefusedError(
                f"cannot talk to the keeper in {self._folder}: {error.strerror}",
                hint="it listens to its own user and to root only",
            ) from error
        except (OSError, asyncio.IncompleteReadError) as error:  # TimeoutError is among them
            cause = str(error) or "no answer in time"
            raise TransientError(
                f"cannot reach the keeper in {self._folder}: {cause}", retry_after_s=REACH_AGAIN_S
            ) from error


class _Line:
    """An open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.welcome: Welcome

    async def agree(self) -> None:
        self._writer.write(wire.line(Hello(versions=wire.VERSIONS)))
        self.welcome = await self.hear(Welcome)

    def ask(self, request: Request) -> None:
        self._writer.write(wire.line(request))

    async def hear(self, *forms: type[R]) -> R:
        """Return the next reply, one of `forms`; raises what the keeper refuses."""
        reply = wire.read_reply(await self._reader.readuntil(b"\n"))
        if isinstance(reply, Refused):
            raise wire.error(reply)
        assert isinstance(reply, forms), f"the keeper answered {reply}"
        return reply

    async def status(self, request: Request) -> ProgramStatus:
        self.ask(request)
        return (await self.hear(Held)).status


@contextlib.asynccontextmanager
async def _connected(
    folder: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the socket in `folder`, by a path that is short however long the folder's is."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reader, writer = await asyncio.open_unix_connection(
            f"/proc/self/fd/{place}/{wire.SOCKET}", limit=limits.KEEPER_LINE_BYTES
        )
    finally:
        os.close(place)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # whatever was not answered is not waited for
        with contextlib.suppress(OSError):
            await writer.wait_closed()

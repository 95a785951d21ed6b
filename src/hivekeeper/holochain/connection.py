"""One websocket to a conductor, shared by many requests at once.

Says of each failed request whether it was sent (`errors`), because a call that was sent is never
sent again. A peer that sends garbage is hung up on; nothing waits without a deadline. Does not
reconnect: whoever needs a new connection knows what must be done before it is of use.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State
from websockets.typing import Origin

from hivekeeper.holochain import wire
from hivekeeper.holochain.errors import AnswerLostError, NotSentError
from hivekeeper.holochain.wire import Endpoint
from hivekeeper.model import limits
from hivekeeper.model.errors import UserError

ORIGIN: Final = "hivekeeper"
"""How we present ourselves. No browser can: it names the page's own address."""

CONNECT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 1.0
"""A conductor that does not say goodbye in this time is left without one."""
ASK_TIMEOUT_S: Final = 60.0
"""Holochain's own limit for a request."""

Q = TypeVar("Q")
A = TypeVar("A")


class Connection:
    """An open connection; made by `connect`.

    Requests may be cancelled and time out one by one: the others do not notice, and an answer that
    comes after all is dropped.
    """

    def __init__(self, socket: ClientConnection, name: str) -> None:
        self.name = name
        self.signals = Signals()
        self._socket = socket
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        self._places = asyncio.Semaphore(limits.CONDUCTOR_REQUESTS)
        self._ended = asyncio.Event()
        self._why = ""

    @property
    def closed(self) -> bool:
        """Whether it is over: nothing more can be sent."""
        return self._ended.is_set() or self._socket.state is not State.OPEN

    async def wait_closed(self) -> str:
        """Return why it is over, once it is."""
        await self._ended.wait()
        return self._why

    async def ask(
        self, endpoint: Endpoint[Q, A], value: Q, *, timeout_s: float = ASK_TIMEOUT_S
    ) -> A:
        """Ask the conductor for something and return its answer.

        Raises:
            NotSentError: Nothing was sent; asking again is safe.
            AnswerLostError: Sent, and no readable answer in `timeout_s` seconds.
            ConductorError: The conductor answered that it failed.
            UserError: It is larger than a conductor takes. Nothing was sent.
        """
        content = endpoint.encode_request(value)
        if len(content) > limits.CONDUCTOR_FRAME_BYTES:
            raise UserError(
                f"cannot {endpoint.request.replace('_', ' ')}: {len(content)} bytes are more than"
                f" the {limits.CONDUCTOR_FRAME_BYTES} that a conductor takes"
            )
        return endpoint.decode_response(await self._exchange(endpoint.request, content, timeout_s))

    async def tell(self, message: wire.Message) -> None:
        """Send something that has no answer."""
        self._need_open("message")
        with contextlib.suppress(ConnectionClosed):  # whoever asks next hears of it
            await self._socket.send(wire.encode(message))

    async def _exchange(self, request: str, content: bytes, timeout_s: float) -> bytes:
        sent = False
        try:
            async with asyncio.timeout(timeout_s), self._places:
                number, answer = self._expect(request)
                try:
                    sent = True  # from here on the bytes may be on their way
                    await self._socket.send(wire.encode(wire.Request(number, content)))
                    data = await answer
                finally:
                    del self._waiting[number]
        except TimeoutError as error:
            if not sent:
                why = f"too many requests for {timeout_s:g} s"
                raise NotSentError(f"cannot send {request} to {self.name}: {why}") from error
            raise self._lost(request, f"none in {timeout_s:g} s") from error
        except ConnectionClosed as error:
            raise self._lost(request, str(error)) from error
        if data is None:
            raise self._lost(request, self._why or "it gave none")
        return data

    def _lost(self, request: str, why: str) -> AnswerLostError:
        return AnswerLostError(f"cannot read the answer of {self.name} to {request}: {why}")

    def _expect(self, request: str) -> tuple[int, asyncio.Future[bytes | None]]:
        self._need_open(request)
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        return number, answer

    def _need_open(self, what: str) -> None:
        """Unless open, `send` writes nothing; if open, it writes before it first waits."""
        if self.closed:
            why = self._why or "the connection is closing"
            raise NotSentError(f"cannot send {what} to {self.name}: {why}")

    async def read(self) -> None:
        """Hand what comes to whoever waits for it, until the connection ends."""
        why = "it was closed here"
        try:
            while True:
                self._receive(wire.decode_message(await self._socket.recv(decode=False)))
        except ConnectionClosed as error:
            why = f"the connection ended ({error})"
        except wire.UNREADABLE as error:
            why = f"it sent what is no message ({error})"
        finally:
            self._end(why)
        await self._socket.close()

    def _receive(self, message: wire.Message) -> None:
        """Take one message. Conductors ask nothing, and answers that nobody waits for are late."""
        match message:
            case wire.Response(id=number, data=data):
                self._answer(number, data)
            case wire.Signal(data=data):
                self.signals.put(data)

    def _answer(self, number: int, data: bytes | None) -> None:
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(data)

    def _end(self, why: str) -> None:
        self._why = why
        self._ended.set()
        for number in self._waiting:
            self._answer(number, None)
        self.signals.end()


class Signals:
    """What comes unasked, for one reader; nothing is kept before somebody reads.

    Bounded: the oldest give way, and are counted.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._listening = False
        self._ended = False

    def put(self, data: bytes) -> None:
        """Keep a signal for the reader, if there is one."""
        if not self._listening:
            return
        self._kept.append(data)
        self._bytes += len(data)
        while len(self._kept) > limits.SIGNALS or self._bytes > limits.SIGNAL_BYTES:
            self._bytes -= len(self._kept.popleft())
            self.dropped += 1
        self._news.set()

    def end(self) -> None:
        """Let the reader finish what is kept, and stop."""
        self._ended = True
        self._news.set()

    def listen(self) -> AsyncIterator[bytes]:
        """Keep signals from now on, and yield them until the connection ends."""
        self._listening = True
        return self._each()

    async def _each(self) -> AsyncIterator[bytes]:
        while self._kept or not self._ended:
            while self._kept:
                data = self._kept.popleft()
                self._bytes -= len(data)
                yield data
            if not self._ended:
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def connect(
    host: str, port: int, *, origin: str = ORIGIN, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[Connection]:
    """Connect to a conductor's interface for as long as the context lasts.

    Raises:
        NotSentError: There is no conductor, or it refuses `origin`; the text says which.
    """
    name = f"the conductor at {host}:{port}"
    socket = await _open(host, port, origin, timeout_s, name)
    connection = Connection(socket, name)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(connection.read(), name=f"reads from {name}")
        try:
            yield connection
        except Exception as error:  # noqa: BLE001 -- raised below: the group would wrap it
            failure = error
        finally:
            reader.cancel()
            await socket.close()
    if failure is not None:
        raise failure


async def _open(
    host: str, port: int, origin: str, timeout_s: float, name: str
) -> ClientConnection:
    try:
        return await connect_socket(
            f"ws://{f'[{host}]' if ':' in host else host}:{port}",
            origin=Origin(origin),
            compression=None,  # the conductor does not do it, and it is on this machine
            proxy=None,
            open_timeout=timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            # A conductor's end is seen at once; against its silence each request has a deadline.
            ping_interval=None,
            max_size=limits.CONDUCTOR_MESSAGE_BYTES,
        )
    except InvalidStatus as error:
        answer = error.response
        detail = (answer.body or b"")[:200].decode(errors="replace").strip()
        reason = f"it answered {answer.status_code} {detail}".rstrip()
        raise NotSentError(f"cannot connect to {name} as `{origin}`: {reason}") from error
    except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
        reason = str(error) or f"nothing in {timeout_s:g} s"
        raise NotSentError(f"cannot connect to {name}: {reason}") from error

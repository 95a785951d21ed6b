"""A hub in memory: what nats-server does with our subjects, users and permissions, and no more.

Passes the contract of `ports.Bus`. `fate` lets messages be lost, late or said twice; `stop` and
`start` are a server that dies and comes back. Time is the event loop's, so it may be virtual.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from hivekeeper.aio.beside import beside
from hivekeeper.aio.finish import finish_within
from hivekeeper.model import limits
from hivekeeper.model.errors import (
    HiveError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.ports import Bus, Handler
from hivekeeper.wire import authority, messages, subjects
from hivekeeper.wire.authority import User
from hivekeeper.wire.messages import Refusal

_log = logging.getLogger(__name__)

Fate = Callable[[str], Sequence[float]]
"""Subject of a message to when its copies arrive, in seconds from now; none: it is lost."""


_FINISH_S: Final = 0.4
"""For answers that are being worked on when nothing more is served."""


def delivered_once(_subject: str) -> Sequence[float]:
    """Let every message arrive at once, and once."""
    return (0.0,)


@dataclass(frozen=True, slots=True)
class _Message:
    subject: str
    payload: bytes
    reply: str = ""
    refused: bool = False


@dataclass(slots=True, eq=False)
class _Interest:
    subject: str
    on_message: Callable[[_Message], None]
    on_connected: Callable[[], None] = lambda: None


@dataclass(slots=True, eq=False)
class _Question:
    subject: str
    answer: asyncio.Future[_Message | HiveError] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, answer: _Message | HiveError) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class FakeHub:
    """The server. Put another `fate` in at any time."""

    def __init__(self, fate: Fate = delivered_once) -> None:
        self.fate = fate
        self.running = True
        self._buses: list[FakeBus] = []

    @asynccontextmanager
    async def connect(self, user: User) -> AsyncIterator[Bus]:
        """Be `user` while the context lasts."""
        bus = FakeBus(self, user)
        async with beside(bus.stay_connected(self._buses), name=f"fake bus of {user.name}"):
            yield bus

    def stop(self) -> None:
        """Be gone, as by `kill -9`."""
        self.running = False
        for bus in self._buses:
            bus.disconnected()

    def start(self) -> None:
        """Be back."""
        self.running = True
        for bus in self._buses:
            bus.connected()

    def carry(self, message: _Message) -> bool:
        """Send it on its way; return whether anybody listens now."""
        for delay_s in self.fate(message.subject):
            asyncio.get_running_loop().call_later(delay_s, self._deliver, message)
        return bool(self._listeners(message.subject))

    def _deliver(self, message: _Message) -> None:
        if self.running:
            for interest in self._listeners(message.subject):
                interest.on_message(message)

    def _listeners(self, subject: str) -> list[_Interest]:
        interests = (interest for bus in self._buses for interest in bus.interests)
        return [each for each in interests if subjects.matches(each.subject, subject)]


class FakeBus:
    """`ports.Bus`, connected while `stay_connected` runs and the hub does."""

    def __init__(self, hub: FakeHub, user: User) -> None:
        self.interests = [_Interest(f"{user.inbox}.*", self._on_reply)]
        self._hub = hub
        self._user = user
        self._ready = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._questions: dict[str, _Question] = {}

    async def stay_connected(self, buses: list["FakeBus"]) -> None:
        """Be among `buses`."""
        buses.append(self)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if self._hub.running:
                    self.connected()
                await asyncio.Event().wait()
        finally:
            buses.remove(self)
            self.disconnected()

    def connected(self) -> None:
        """Notice that the hub is there."""
        self._ready.set()
        for interest in list(self.interests):
            interest.on_connected()

    def disconnected(self) -> None:
        """Notice that the hub is gone."""
        self._ready.clear()
        for question in self._questions.values():
            question.settle(TransientError(f"cannot ask {question.subject}: the hub is gone"))

    async def publish(self, subject: str, payload: bytes) -> None:
        _check_size(subject, payload)
        if self._ready.is_set() and authority.may_publish(self._user, subject):
            self._hub.carry(_Message(subject, payload))

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        _check_size(subject, payload)
        token, question = secrets.token_hex(8), _Question(subject)
        self._questions[token] = question
        try:
            async with asyncio.timeout(timeout_s):
                await self._ask(_Message(subject, payload, reply=f"{self._user.inbox}.{token}"))
                return _content(await question.answer)
        except TimeoutError:
            cause = f"no answer within {timeout_s:g} s"
            raise TransientError(f"cannot ask {subject}: {cause}") from None
        finally:
            del self._questions[token]

    @asynccontextmanager
    async def serve(self, subject: str, handler: Handler) -> AsyncIterator[None]:
        running: set[asyncio.Task[None]] = set()
        places = asyncio.Semaphore(limits.HUB_ANSWERS_AT_ONCE)

        def on_message(message: _Message) -> None:
            if authority.may_answer(message.subject, message.reply):
                assert self._tasks is not None, "messages come only while connected"
                task = self._tasks.create_task(self._answer(handler, message, places))
                running.add(task)
                task.add_done_callback(running.discard)

        try:
            async with self._listen(_Interest(subject, on_message)):
                yield
        finally:
            await finish_within(running, _FINISH_S)

    def subscribe(
        self, subject: str, on_message: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        def hear(message: _Message) -> None:
            on_message(message.subject)

        return self._listen(_Interest(subject, hear, lambda: on_message(subject)))

    @asynccontextmanager
    async def _listen(self, interest: _Interest) -> AsyncIterator[None]:
        await asyncio.sleep(0)  # a word to the server
        if not authority.may_subscribe(self._user, interest.subject):
            raise PermissionRefusedError(f"{self._user.name} may not listen on {interest.subject}")
        self.interests.append(interest)
        try:
            yield
        finally:
            self.interests.remove(interest)

    async def _ask(self, message: _Message) -> None:
        await asyncio.sleep(0)  # the connection is made in the background
        if not self._ready.is_set():
            raise TransientError(f"cannot ask {message.subject}: not connected")
        if not authority.may_publish(self._user, message.subject):
            raise PermissionRefusedError(f"{self._user.name} may not ask {message.subject}")
        if not self._hub.carry(message):
            raise TransientError(f"cannot ask {message.subject}: nobody there")

    async def _answer(
        self, handler: Handler, message: _Message, places: asyncio.Semaphore
    ) -> None:
        async with places:
            try:
                reply = _Message(message.reply, await _answered(handler, message))
            except HiveError as error:
                refusal = messages.encode(messages.refusal(error))
                reply = _Message(message.reply, refusal, refused=True)
        if self._ready.is_set():
            self._hub.carry(reply)

    def _on_reply(self, message: _Message) -> None:
        question = self._questions.get(message.subject.rpartition(".")[2])
        if question is not None:
            question.settle(message)


async def _answered(handler: Handler, message: _Message) -> bytes:
    try:
        payload = await handler(message.subject, message.payload)
    except HiveError:
        raise
    except Exception as error:
        _log.error("a bug: cannot answer %s", message.subject, exc_info=error)
        raise TransientError(f"cannot answer {message.subject}: a bug; see the log") from error
    if len(payload) > limits.MESSAGE_BYTES:
        raise PermanentError(f"cannot answer {message.subject}: {len(payload)} bytes")
    return payload


def _content(answer: _Message | HiveError) -> bytes:
    if isinstance(answer, HiveError):
        raise answer
    if answer.refused:
        raise messages.refused(messages.decode(answer.payload, Refusal))
    return answer.payload


def _check_size(subject: str, payload: bytes) -> None:
    if len(payload) > limits.MESSAGE_BYTES:
        raise UserError(f"cannot send {len(payload)} bytes on {subject}: too many")

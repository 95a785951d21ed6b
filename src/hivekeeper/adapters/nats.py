"""The bus on NATS: `ports.Bus` over nats-py, for as long as wanted, whatever the server does.

One nats-py client is one connection, and is thrown away with it; `stay_connected` makes the next.
nats-py's own reconnecting is switched off, because it ends for good at some of the server's
errors (a user let in a moment later), sends old messages late, and leaves requests waiting for
answers that cannot come.

Keeps nothing for later: what cannot be sent now is lost, or the asker is told. Never asks twice.
"""

import asyncio
import logging
import random
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from hivekeeper.adapters import keys
from hivekeeper.aio.beside import beside
from hivekeeper.aio.complaints import Complaints
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
from hivekeeper.wire import authority, messages
from hivekeeper.wire.authority import User
from hivekeeper.wire.messages import Refusal

_log = logging.getLogger(__name__)

REFUSED: Final = "Hive-Refused"
"""The header that marks a reply as a `Refusal`."""

_CONNECT_S: Final = 2
"""For each step of connecting; a server on the other side of the world takes half a second."""
_WAIT_FOR_CONNECTION_S: Final = 1.0
"""How long a request waits for a connection: over a server's restart, not over its absence."""
_FIRST_DELAY_S: Final = 0.05
_LAST_DELAY_S: Final = 1.0
_LASTED_S: Final = 1.0
"""A connection that lasted so long was a good one: the next is tried at once."""
_PING_EVERY_S: Final = 5
"""A server that is silent for three of these is gone, whatever TCP says."""
_LOOK_EVERY_S: Final = 1.0
"""nats-py does not always tell that it has closed."""
_FINISH_S: Final = 0.4
"""For answers that are being worked on, and for the last bytes, when the context ends."""

_LIBRARY_ERRORS: Final = (OSError, errors.Error)
"""What nats-py raises for the world's faults; a `TimeoutError` is an `OSError`."""
_NO_SERVER: Final = "what answers there is no NATS server"
_ONE_CONNECTION: Final = {
    "allow_reconnect": False,
    "max_reconnect_attempts": 1,
    "reconnect_time_wait": 0,
    "connect_timeout": _CONNECT_S,
    "ping_interval": _PING_EVERY_S,
    "pending_size": 0,  # nothing is kept while disconnected; HUB_UNSENT_BYTES bounds the rest
}
_VIOLATION: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
"""As nats-py hands it on, in small letters."""


@asynccontextmanager
async def connect(url: str, user: User, seed: str, *, name: str) -> AsyncIterator[Bus]:
    """Be `user` on the hub while the context lasts, connected or about to be again.

    Returns at once: whether there is a server shows when something is asked.

    Args:
        url: `nats://HOST:PORT`.
        user: Who to be; its subjects are all that there is to say and hear.
        seed: The user's secret.
        name: What the server's own tools call the connection.

    Raises:
        UserError: The URL or the seed is none.
    """
    bus = NatsBus(_checked_url(url), user, seed, name=name)
    async with beside(bus.stay_connected(), name=f"hub connection of {user.name}"):
        yield bus


@dataclass(slots=True, eq=False)
class _Interest:
    """Something to listen to, on this connection and all later ones."""

    subject: str
    on_message: Callable[[Msg], Awaitable[None]]
    on_connected: Callable[[], None] = lambda: None
    subscription: Any = None


@dataclass(slots=True, eq=False)
class _Question:
    """A request that waits for its answer, or for the reason why there will be none."""

    subject: str
    answer: asyncio.Future[Msg | HiveError] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, answer: Msg | HiveError) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class NatsBus:
    """`ports.Bus`, connected while `stay_connected` runs."""

    def __init__(self, url: str, user: User, seed: str, *, name: str) -> None:
        self._url = url
        self._user = user
        self._proof = _proof(seed)
        self._name = name
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._cause = "it has not been tried yet"
        self._tasks: asyncio.TaskGroup | None = None
        self._interests = [_Interest(f"{user.inbox}.*", self._on_reply)]
        self._refused: set[str] = set()
        self._questions: dict[str, _Question] = {}
        self._complaints = Complaints(_log, f"hub {url}, user {user.name}")

    async def publish(self, subject: str, payload: bytes) -> None:
        _check_size(subject, payload)
        if self._client is None or self._client.pending_data_size > limits.HUB_UNSENT_BYTES:
            return
        try:
            await self._client.publish(subject, payload)
        except _LIBRARY_ERRORS as error:
            self._complaints.say(f"cannot publish on {subject}: {error}")

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        _check_size(subject, payload)
        token, question = secrets.token_hex(8), _Question(subject)
        self._questions[token] = question
        try:
            async with asyncio.timeout(timeout_s):
                client = await self._connection(subject)
                await client.publish(subject, payload, reply=f"{self._user.inbox}.{token}")
                return _content(subject, await question.answer)
        except TimeoutError:
            cause = f"no answer within {timeout_s:g} s" if self._ready.is_set() else self._absence
            raise TransientError(f"cannot ask {subject}: {cause}") from None
        except _LIBRARY_ERRORS as error:
            raise TransientError(f"cannot ask {subject}: {error}") from error
        finally:
            del self._questions[token]

    @asynccontextmanager
    async def serve(self, subject: str, handler: Handler) -> AsyncIterator[None]:
        running: set[asyncio.Task[None]] = set()
        places = asyncio.Semaphore(limits.HUB_ANSWERS_AT_ONCE)

        async def on_message(message: Msg) -> None:
            if not authority.may_answer(message.subject, message.reply):
                self._complaints.say(f"not answering {message.subject}: not to the asker's inbox")
                return
            assert self._tasks is not None, "messages come only while connected"
            await places.acquire()
            name = f"answer {message.subject}"
            task = self._tasks.create_task(self._answer(handler, message), name=name)
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: places.release())

        try:
            async with self._listen(_Interest(subject, on_message)):
                yield
        finally:
            await finish_within(running, _FINISH_S)

    def subscribe(
        self, subject: str, on_message: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        async def hear(message: Msg) -> None:
            on_message(message.subject)

        return self._listen(_Interest(subject, hear, lambda: on_message(subject)))

    async def stay_connected(self) -> None:
        """Connect, and connect again, for ever."""
        failures, task = 0, asyncio.current_task()
        assert task is not None, "runs in a loop"
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                began_s = asyncio.get_running_loop().time()
                await self._one_connection()
                if task.cancelling():  # nats-py drops a cancellation that comes while it closes
                    raise asyncio.CancelledError
                lasted = asyncio.get_running_loop().time() - began_s > _LASTED_S
                failures = 0 if lasted else min(failures + 1, 16)
                longest_s = min(_LAST_DELAY_S, _FIRST_DELAY_S * 2.0**failures)
                await asyncio.sleep(longest_s * random.uniform(0.5, 1))  # noqa: S311 -- no secret

    async def _one_connection(self) -> None:
        """Connect, serve until the connection is lost, and leave nothing of it."""
        client, lost = Client(), asyncio.Event()
        try:
            await self._open(client, lost)
            await self._take_up(client)
            while client.is_connected and not lost.is_set():
                await _happens_within(lost, _LOOK_EVERY_S)
            self._cause = "the connection was lost"
            _log.info("lost the hub at %s as %s", self._url, self._user.name)
        except _LIBRARY_ERRORS as error:
            if not isinstance(error, errors.NoServersError):  # then `on_error` has the cause
                self._cause = _words(error)
            self._complaints.say(f"not connected: {self._cause}")
        finally:
            self._let_go()
            await _close(client)

    async def _open(self, client: Client, lost: asyncio.Event) -> None:
        async def on_error(error: Exception) -> None:
            self._on_error(error)
            if isinstance(error, errors.UnexpectedEOF):
                lost.set()

        async def on_closed() -> None:
            lost.set()

        options: dict[str, Any] = _ONE_CONNECTION | self._proof
        try:
            await _obediently(
                client.connect(
                    self._url, name=self._name, error_cb=on_error, closed_cb=on_closed, **options
                )
            )
        except ValueError as error:  # an endless first line
            raise errors.Error(_NO_SERVER) from error
        if not client.is_connected:
            raise errors.Error(_NO_SERVER)

    async def _take_up(self, client: Client) -> None:
        """Listen to all that is of interest, and only then let requests through."""
        self._client = client
        for interest in list(self._interests):  # who comes later sees the client
            if interest in self._interests:
                await _start(interest, client)
        await _synchronize(client)
        self._ready.set()
        self._complaints.forget()
        _log.info("connected to the hub at %s as %s", self._url, self._user.name)
        for interest in list(self._interests):
            interest.on_connected()

    def _let_go(self) -> None:
        self._client = None
        self._ready.clear()
        for question in self._questions.values():
            question.settle(TransientError(f"cannot ask {question.subject}: {self._absence}"))

    @property
    def _absence(self) -> str:
        return f"not connected to the hub at {self._url} as {self._user.name}: {self._cause}"

    async def _connection(self, subject: str) -> Client:
        if not await _happens_within(self._ready, _WAIT_FOR_CONNECTION_S):
            raise TransientError(f"cannot ask {subject}: {self._absence}")
        assert self._client is not None, "ready means connected"
        if self._client.pending_data_size > limits.HUB_UNSENT_BYTES:
            raise TransientError(f"cannot ask {subject}: the hub takes no more messages")
        return self._client

    @asynccontextmanager
    async def _listen(self, interest: _Interest) -> AsyncIterator[None]:
        self._interests.append(interest)
        try:
            if self._client is not None:
                await self._start_now(interest, self._client)
            yield
        finally:
            self._interests.remove(interest)
            await _stop(interest, self._client)

    async def _start_now(self, interest: _Interest, client: Client) -> None:
        """Listen from now on, known to the server when this returns; or later, if it is gone."""
        self._refused.discard(interest.subject.lower())
        try:
            await _start(interest, client)
            await _synchronize(client)
        except _LIBRARY_ERRORS as error:
            self._complaints.say(f"cannot listen on {interest.subject} yet: {_words(error)}")
        if interest.subject.lower() in self._refused:
            raise PermissionRefusedError(_refusal("listen on", interest.subject, self._user))

    async def _answer(self, handler: Handler, message: Msg) -> None:
        headers = None
        try:
            payload = await _answered(handler, message)
        except HiveError as error:
            payload, headers = messages.encode(messages.refusal(error)), {REFUSED: "1"}
        await self._reply(message, payload, headers)

    async def _reply(self, message: Msg, payload: bytes, headers: dict[str, str] | None) -> None:
        """Over the connection that is now; if it is a new one, nobody waits for this answer."""
        if self._client is not None:
            try:
                await self._client.publish(message.reply, payload, headers=headers)
            except _LIBRARY_ERRORS as error:
                self._complaints.say(f"cannot answer {message.subject}: {error}")

    async def _on_reply(self, message: Msg) -> None:
        question = self._questions.get(message.subject.rpartition(".")[2])
        if question is not None:
            question.settle(message)

    def _on_error(self, error: Exception) -> None:
        """Take what nats-py reports beside the way."""
        text = str(error)
        if violation := _VIOLATION.search(text.lower()):
            self._on_violation(*violation.groups())
        elif isinstance(error, errors.SlowConsumerError):
            self._complaints.say(f"too slow, messages were lost: {error.sub.subject}")
        elif isinstance(error, OSError | errors.Error):
            self._cause = _words(error)
        else:
            _log.error("a bug: could not take a message", exc_info=error)

    def _on_violation(self, verb: str, subject: str) -> None:
        self._complaints.say(f"the hub does not allow {verb} to {subject}")
        if verb == "subscription":
            self._refused.add(subject)
            return
        for question in self._questions.values():
            if question.subject.lower() == subject:
                text = _refusal("ask", question.subject, self._user)
                question.settle(PermissionRefusedError(text))


def _proof(seed: str) -> dict[str, Any]:
    """Return how a user proves who it is: here alone would tokens (JWT) take the place of keys."""
    keys.public_key(seed)
    return {"nkeys_seed_str": seed}


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "nats" and parts.hostname and parts.port
        alone = parts.netloc and url == f"nats://{parts.netloc}" and "@" not in parts.netloc
    except ValueError:
        good = alone = False
    if not (good and alone):
        raise UserError("cannot use the hub's address: it must read nats://HOST:PORT")
    return url


def _check_size(subject: str, payload: bytes) -> None:
    if len(payload) > limits.MESSAGE_BYTES:
        raise UserError(
            f"cannot send {len(payload)} bytes on {subject}: {limits.MESSAGE_BYTES} is the most"
        )


def _content(subject: str, answer: Msg | HiveError) -> bytes:
    """Return the payload of an answer, or raise what it says instead."""
    if isinstance(answer, HiveError):
        raise answer
    headers = answer.headers or {}
    if headers.get("Status") == "503":
        raise TransientError(f"cannot ask {subject}: nobody there answers such requests now")
    if REFUSED in headers:
        raise messages.refused(messages.decode(answer.data, Refusal))
    return answer.data


def _refusal(verb: str, subject: str, user: User) -> str:
    return f"cannot {verb} {subject}: the hub does not allow it to {user.name}"


def _words(error: BaseException) -> str:
    """Return an error's text, without nats-py's prefix; its kind where it has none."""
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__


async def _obediently(call: Awaitable[None]) -> None:
    """Await something of nats-py's, and be cancelled if that was asked for meanwhile.

    `asyncio.wait_for`, which it uses, can lose a cancellation on Python 3.11.
    """
    task = asyncio.current_task()
    assert task is not None, "this runs in a task"
    asked = task.cancelling()
    await call
    if task.cancelling() > asked:
        raise asyncio.CancelledError


async def _synchronize(client: Client) -> None:
    """Return when the server has done all that it was told before.

    flush() alone would not do: what it sends overtakes what still waits to be sent.
    """
    async with asyncio.timeout(_CONNECT_S):
        while client.pending_data_size and client.is_connected:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0.001)
        await _obediently(client.flush(_CONNECT_S))


async def _start(interest: _Interest, client: Client) -> None:
    interest.subscription = await client.subscribe(
        interest.subject,
        cb=interest.on_message,
        pending_msgs_limit=limits.HUB_WAITING_MESSAGES,
        pending_bytes_limit=limits.HUB_WAITING_BYTES,
    )


async def _stop(interest: _Interest, client: Client | None) -> None:
    """Listen no more; what has come already is still heard, unless the server hangs."""
    if interest.subscription is None or client is None:
        return
    try:
        with suppress(*_LIBRARY_ERRORS):
            async with asyncio.timeout(_FINISH_S):
                await _obediently(interest.subscription.drain())
                await _synchronize(client)
    finally:
        interest.subscription._stop_processing()  # noqa: SLF001 -- drain may have failed halfway


async def _answered(handler: Handler, message: Msg) -> bytes:
    """Return the answer; raises only `HiveError`: no asker ends what serves all the others."""
    try:
        payload = await handler(message.subject, message.data)
    except HiveError:
        raise
    except Exception as error:  # the boundary between one request and the rest
        _log.error("a bug: cannot answer %s", message.subject, exc_info=error)
        raise TransientError(f"cannot answer {message.subject}: a bug; see the log") from error
    if len(payload) > limits.MESSAGE_BYTES:
        size = len(payload)
        raise PermanentError(f"cannot answer {message.subject}: {size} bytes are too many")
    return payload


async def _happens_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _close(client: Client) -> None:
    """Close in good order; a server that does not take the last bytes is hung up on."""
    try:
        with suppress(*_LIBRARY_ERRORS):
            async with asyncio.timeout(_FINISH_S):
                await client.close()
    finally:
        _hang_up(client)
    await asyncio.sleep(0)  # nats-py cancels its tasks, and does not wait for them


def _hang_up(client: Client) -> None:
    """End what nats-py leaves when close() fails halfway; it has no word of its own for this."""
    for subscription in list(client._subs.values()):  # noqa: SLF001
        subscription._stop_processing()  # noqa: SLF001
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001
    if writer is not None:
        writer.transport.abort()

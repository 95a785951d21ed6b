"""The app interface, line 0.6: zome calls and signals of one hApp, for whoever has its token.

A call is signed, sent once, and never again by us: see `errors` for what is known when it fails.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from hivekeeper.holochain import connection, wire
from hivekeeper.holochain.apps import AppInfo, CellId
from hivekeeper.holochain.connection import ASK_TIMEOUT_S, CONNECT_TIMEOUT_S, ORIGIN, Connection
from hivekeeper.holochain.errors import AnswerLostError, NotSentError
from hivekeeper.holochain.signing import NONCE_BYTES, SignedZomeCall, Signer
from hivekeeper.holochain.wire import NOTHING, Endpoint
from hivekeeper.ports import Clock

APP_INFO: Final = Endpoint("app_info", NOTHING, "app_info", AppInfo)
CALL_ZOME: Final = Endpoint("call_zome", SignedZomeCall, "zome_called", bytes)
PROVIDE_MEMPROOFS: Final = Endpoint("provide_memproofs", dict[str, bytes], "ok", NOTHING)


class AppAuthenticationRequest(Struct, frozen=True):
    """The first thing said on an app connection. Rust's clients write the token as numbers."""

    token: bytes | list[int]

    def __repr__(self) -> str:
        return "AppAuthenticationRequest(...)"


class AppSignal(Struct, frozen=True):
    """What a zome emitted; `signal` is MessagePack of whatever it is."""

    cell_id: CellId
    zome_name: str
    signal: bytes


class _App(Struct, frozen=True, tag_field="type", tag="app"):
    value: AppSignal


class _System(Struct, frozen=True, tag_field="type", tag="system"):
    value: Any = None


_decode_signal: Final = msgspec.msgpack.Decoder(_App | _System).decode


class AppClient:
    """A hApp's interface, open and let in; made by `connect`."""

    def __init__(self, opened: Connection, info: AppInfo, clock: Clock) -> None:
        self.connection = opened
        self.info = info
        self._clock = clock

    async def call_zome(
        self,
        signer: Signer,
        cell: CellId,
        zome: str,
        fn: str,
        payload: bytes,
        *,
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> bytes:
        """Call a function and return its result; argument and result are MessagePack.

        Raises:
            NotSentError: Nothing was sent; calling again is safe.
            AnswerLostError: Sent; whether it was carried out is not known.
            ConductorError: It failed, or is not allowed.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        call = signer.sign(cell, zome, fn, payload, nonce=nonce, now=self._clock.now())
        return await self.connection.ask(CALL_ZOME, call, timeout_s=timeout_s)

    def signals(self) -> AsyncIterator[AppSignal]:
        """Yield what zomes emit from now on, until the connection ends; for one reader."""
        return _app_signals(self.connection.signals.listen())


async def _app_signals(contents: AsyncIterator[bytes]) -> AsyncIterator[AppSignal]:
    async for content in contents:
        with contextlib.suppress(*wire.UNREADABLE):  # a signal that nobody can read is none
            signal = _decode_signal(content)
            if isinstance(signal, _App):
                yield signal.value


@contextlib.asynccontextmanager
async def connect(
    host: str,
    port: int,
    token: bytes,
    *,
    clock: Clock,
    origin: str = ORIGIN,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> AsyncIterator[AppClient]:
    """Open the hApp's interface that `token` is for, while the context lasts.

    A conductor does not say that a token is good: it hangs up if it is not. So the first request
    is made here.

    Raises:
        NotSentError: There is no conductor, or it forgot the token: it does when it restarts.
    """
    async with connection.connect(host, port, origin=origin, timeout_s=timeout_s) as opened:
        request = AppAuthenticationRequest(token)
        await opened.tell(wire.Authenticate(wire.encode(request)))
        try:
            info = await opened.ask(APP_INFO, None, timeout_s=timeout_s)
        except AnswerLostError as error:
            raise NotSentError(f"{error}; it hangs up on a token it does not know") from error
        yield AppClient(opened, info, clock)

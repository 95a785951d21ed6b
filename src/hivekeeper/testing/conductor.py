"""A conductor made of Python: the protocol of line 0.6, with zome functions that a test gives it.

Verified by the same contract suite as the real one. It keeps its apps when it is stopped and
started again, forgets its tokens as the real one does, checks signatures, nonces and grants, and
does on request what a bad conductor does (`Fault`). Runs no WebAssembly and has no network.
"""

import asyncio
import contextlib
import http
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from hivekeeper.holochain import admin, app, apps, hashes, wire
from hivekeeper.holochain.signing import SignedZomeCall
from hivekeeper.holochain.wire import Endpoint, Tagged
from hivekeeper.model import limits
from hivekeeper.ports import Clock
from hivekeeper.testing.happs import API, Called, FailureError, Functions, Happs

_Handlers = Mapping[str, tuple[Endpoint[Any, Any], Callable[[Any], Any]]]


class Fault(StrEnum):
    """What a bad conductor does with a request."""

    HANG_UP = auto()
    """It is carried out, and the connection is gone before the answer."""
    SILENCE = auto()
    """It is carried out, and never answered."""
    NO_DATA = auto()
    """The answer's envelope is empty."""
    GARBAGE = auto()
    """What comes is no message."""
    NONSENSE = auto()
    """The answer is a message, and its content is nonsense."""
    OTHER = auto()
    """The answer belongs to another request."""


@dataclass(slots=True)
class _Session:
    """One run: what is gone when the conductor stops."""

    servers: dict[int, Server] = field(default_factory=dict)
    tokens: dict[bytes, tuple[str, bool]] = field(default_factory=dict)
    listeners: dict[ServerConnection, str] = field(default_factory=dict)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)


class FakeConductor:
    """See the module. `faults` maps a request's name to what goes wrong with it, until removed."""

    def __init__(self, *, clock: Clock, functions: Functions, origins: str = "*") -> None:
        self.happs = Happs(clock, functions)
        self.origins = origins
        self.faults: dict[str, Fault] = {}
        self.seen: list[str] = []
        """The name of each request, in the order they came."""
        self.admin_port = 0
        self._interfaces: list[admin.AppInterfaceInfo] = []
        self._run = _Session()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FakeConductor"]:
        """Listen while the context lasts; always on the same ports."""
        self._run = _Session()
        self.happs.restart()
        async with self._run.stack:
            self.admin_port = await self._listen(self.admin_port, self._serve_admin, self.origins)
            for each in self._interfaces:
                await self._open(each)
            yield self

    def crash(self) -> None:
        """Drop all connections without a word, and listen no more."""
        for server in self._run.servers.values():
            for socket in server.connections:
                socket.transport.abort()
            server.close(close_connections=False)

    async def _listen(
        self, port: int, serve_one: Callable[[ServerConnection], Awaitable[None]], origins: str
    ) -> int:
        async def check(connection: ServerConnection, request: Request) -> Response | None:
            origin = request.headers.get("Origin")
            allowed = [each.strip() for each in origins.split(",")]
            if origin is None:
                return connection.respond(http.HTTPStatus.BAD_REQUEST, "Missing `Origin` header")
            if origins != "*" and origin not in allowed:
                return connection.respond(http.HTTPStatus.BAD_REQUEST, "")
            return None

        server = await self._run.stack.enter_async_context(
            serve(
                serve_one,
                "127.0.0.1",
                port,
                process_request=check,
                compression=None,
                max_size=limits.CONDUCTOR_MESSAGE_BYTES,
                close_timeout=0.1,
            )
        )
        chosen = int(next(iter(server.sockets)).getsockname()[1])
        self._run.servers[chosen] = server
        return chosen

    async def _serve_admin(self, socket: ServerConnection) -> None:
        await self._serve(socket, self._admin_handlers())

    async def _serve_app(self, socket: ServerConnection, only: str | None) -> None:
        message = wire.decode_message(await socket.recv(decode=False))
        if not isinstance(message, wire.Authenticate):
            return
        first = msgspec.msgpack.decode(message.data, type=app.AppAuthenticationRequest)
        token = bytes(first.token)
        app_id, single_use = self._run.tokens.get(token, ("", False))
        if not app_id or only not in (None, app_id):
            return
        if single_use:
            del self._run.tokens[token]
        self._run.listeners[socket] = app_id
        try:
            await self._serve(socket, self._app_handlers(app_id))
        finally:
            self._run.listeners.pop(socket, None)

    async def _serve(self, socket: ServerConnection, handlers: _Handlers) -> None:
        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(ConnectionClosed):
                async for data in socket:
                    assert isinstance(data, bytes), "a client of ours speaks binary"
                    with contextlib.suppress(*wire.UNREADABLE):  # a bad envelope is ignored
                        message = wire.decode_message(data)
                        if isinstance(message, wire.Request):
                            group.create_task(self._answer(socket, message, handlers), name="call")

    async def _answer(
        self, socket: ServerConnection, request: wire.Request, handlers: _Handlers
    ) -> None:
        name, content = await self._carry_out(request.data, handlers)
        with contextlib.suppress(ConnectionClosed):
            match self.faults.get(name):
                case None:
                    await socket.send(wire.encode(wire.Response(request.id, content)))
                case Fault.HANG_UP:
                    socket.transport.abort()
                case Fault.NO_DATA:
                    await socket.send(wire.encode(wire.Response(request.id, None)))
                case Fault.GARBAGE:
                    await socket.send(b"\xc1 this is no message")
                case Fault.NONSENSE:
                    await socket.send(wire.encode(wire.Response(request.id, b"\x91" * 5)))
                case Fault.OTHER:
                    other = wire.encode(Tagged("nobody_asked_for_this"))
                    await socket.send(wire.encode(wire.Response(request.id, other)))
                case Fault.SILENCE:
                    await socket.wait_closed()

    async def _carry_out(self, content: bytes, handlers: _Handlers) -> tuple[str, bytes]:
        name = ""
        try:
            name = wire.read_type(content)
            endpoint, handle = handlers[name]
            value = endpoint.decode_request(content)
        except (KeyError, *wire.UNREADABLE):
            failure = wire.encode_error("deserialization", "Failed to deserialize request")
            return name, failure
        self.seen.append(name)
        try:
            answer = handle(value)
            if isinstance(answer, Awaitable):
                answer = await answer
            return name, endpoint.encode_response(answer)
        except FailureError as error:
            return name, wire.encode_error(error.kind, str(error))

    def _admin_handlers(self) -> _Handlers:
        table: list[tuple[Endpoint[Any, Any], Callable[[Any], Any]]] = [
            (admin.GENERATE_AGENT_PUB_KEY, lambda _: hashes.AGENT.of(secrets.token_bytes(32))),
            (admin.INSTALL_APP, self.happs.install),
            (admin.UNINSTALL_APP, self.happs.uninstall),
            (admin.ENABLE_APP, lambda asked: self.happs.set_status(asked, Tagged(apps.ENABLED))),
            (admin.DISABLE_APP, self.happs.disable),
            (admin.LIST_APPS, self.happs.list_apps),
            (admin.LIST_DNAS, lambda _: sorted({cell.dna_hash for cell in self.happs.cells()})),
            (admin.LIST_CELL_IDS, lambda _: self.happs.cells()),
            (admin.GET_DNA_DEFINITION, self.happs.definition),
            (admin.UPDATE_COORDINATORS, self.happs.update_coordinators),
            (admin.ATTACH_APP_INTERFACE, self._attach),
            (admin.LIST_APP_INTERFACES, lambda _: self._interfaces),
            (admin.ISSUE_APP_AUTHENTICATION_TOKEN, self._issue_token),
            (admin.GRANT_ZOME_CALL_CAPABILITY, self.happs.grant),
            (admin.REVOKE_ZOME_CALL_CAPABILITY, self.happs.revoke),
            (admin.LIST_CAPABILITY_GRANTS, self.happs.list_grants),
            (admin.STORAGE_INFO, lambda _: admin.StorageInfo([])),
            (admin.DUMP_NETWORK_METRICS, lambda _: {}),
            (admin.DUMP_NETWORK_STATS, lambda _: admin.NetworkStats({"backend": "none"})),
            (admin.AGENT_INFO, lambda _: []),
        ]
        return {endpoint.request: (endpoint, handle) for endpoint, handle in table}

    def _app_handlers(self, app_id: str) -> _Handlers:
        return {
            app.APP_INFO.request: (app.APP_INFO, lambda _: self.happs.app(app_id).info),
            app.CALL_ZOME.request: (app.CALL_ZOME, self._call_zome),
            app.PROVIDE_MEMPROOFS.request: (
                app.PROVIDE_MEMPROOFS,
                lambda _: self.happs.provide_memproofs(app_id),
            ),
        }

    async def _attach(self, asked: admin.AttachAppInterface) -> admin.Port:
        info = admin.AppInterfaceInfo(
            asked.port or 0, asked.allowed_origins, asked.installed_app_id
        )
        try:
            port = await self._open(info)
        except OSError as error:
            text = f'{API}InterfaceError(IoError(Os {{ kind: AddrInUse, message: "{error}" }}))'
            raise FailureError("internal_error", text) from error
        self._interfaces.append(msgspec.structs.replace(info, port=port))
        return admin.Port(port)

    async def _open(self, info: admin.AppInterfaceInfo) -> int:
        async def serve_one(socket: ServerConnection) -> None:
            await self._serve_app(socket, info.installed_app_id)

        return await self._listen(info.port, serve_one, info.allowed_origins)

    def _issue_token(
        self, asked: admin.IssueAppAuthenticationToken
    ) -> admin.AppAuthenticationTokenIssued:
        self.happs.app(asked.installed_app_id)
        token = secrets.token_bytes(64)
        self._run.tokens[token] = (asked.installed_app_id, asked.single_use)
        return admin.AppAuthenticationTokenIssued(list(token))

    async def _call_zome(self, signed: SignedZomeCall) -> bytes:
        called: Called = await self.happs.call(signed)
        for signal in called.signals:
            await self._tell(called.app_id, signal)
        return called.result

    async def _tell(self, app_id: str, data: bytes) -> None:
        for socket, theirs in list(self._run.listeners.items()):
            if theirs == app_id:
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(wire.encode(wire.Signal(data)))

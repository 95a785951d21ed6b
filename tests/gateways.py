"""A gateway for tests, and what it needs: routes, hApps handed over, a client that sends anything.

The gateway runs in the test's own loop, on a fake hub, with whatever conductor the test has.
"""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hivekeeper.adapters.clock import SystemClock
from hivekeeper.adapters.disk import RealDisk
from hivekeeper.aio.beside import beside
from hivekeeper.gateway import gateway
from hivekeeper.holochain import access, admin, connection, hashes, installer
from hivekeeper.holochain.access import Access, CellAccess
from hivekeeper.holochain.apps import CellId
from hivekeeper.holochain.signing import SigningCredentials
from hivekeeper.holochain.wire import Tagged
from hivekeeper.model.ids import HostId, WorkloadName
from hivekeeper.ports import Bus
from hivekeeper.testing.bus import FakeHub
from hivekeeper.wire import authority, messages, subjects
from hivekeeper.wire.messages import Route, RoutesReply

HERE = HostId("here")
LONG_S = 30.0
"""For what must happen, on a machine that is busy with other things."""
HAPP = Path(__file__).parents[1] / "examples/notes/notes.happ"
DNA = hashes.DNA.of(b"\x01" * 32)
DNA_TEXT = hashes.text(DNA)


def route(
    app_id: str = "notes",
    *,
    functions: tuple[str, ...] = ("*/*",),
    workload: str | None = None,
    host: str = HERE,
) -> Route:
    """Return that a hApp's functions, all unless told, may be called on a host."""
    name = WorkloadName(workload or app_id)
    return Route(app_id=app_id, workload=name, host=host, functions=functions)


def opened(app_id: str = "notes", port: int = 1, dna: bytes = DNA) -> Access:
    """Return what opens a hApp that nobody has installed."""
    cell = CellId(hashes.DNA.check(dna), hashes.AGENT.of(b"\x02" * 32))
    credentials = SigningCredentials(b"\x03" * 32, b"\x04" * 64)
    cells = {"main": CellAccess(cell=cell, credentials=credentials)}
    return Access(installed_app_id=app_id, app_port=port, token=b"\x05" * 64, cells=cells)


def hand_over(folder: Path, opens: Access, workload: str | None = None) -> None:
    """Put what opens a hApp where gateways look, as a host agent does."""
    name = workload or opens.installed_app_id
    RealDisk().write(folder / f"{name}.json", access.encode(opens))


async def settle(admin_port: int, app_id: str, folder: Path) -> Access:
    """Do what a host agent does each time a conductor has started: install, open, hand over."""
    file = folder / f"{app_id}.json"
    known = access.decode(file.read_bytes()) if file.exists() else None
    async with connection.connect("127.0.0.1", admin_port) as to_admin:
        listed = await to_admin.ask(admin.LIST_APPS, admin.ListApps())
        if app_id not in [each.installed_app_id for each in listed]:
            asked = admin.InstallAppPayload(
                source=Tagged("path", str(HAPP)), installed_app_id=app_id, network_seed=app_id
            )
            await to_admin.ask(admin.INSTALL_APP, asked)
        info = await to_admin.ask(admin.ENABLE_APP, admin.AppId(app_id))
        port = await installer.attach(to_admin, app_id, known.app_port if known else 0)
        keys = {each.cell: each.credentials for each in known.cells.values()} if known else {}
        opens = Access(
            installed_app_id=app_id,
            app_port=port,
            token=await installer.issue_token(to_admin, app_id),
            cells=await installer.authorise(to_admin, info, keys),
        )
    hand_over(folder, opens)
    return opens


def dna_of(opens: Access) -> str:
    """Return the text of the hash of its only DNA."""
    (cell,) = opens.cells.values()
    return hashes.text(cell.cell.dna_hash)


@dataclass(slots=True)
class Orchestrator:
    """Says which routes there are."""

    bus: Bus
    routes: list[Route] = field(default_factory=list)
    asked: int = 0

    async def answer(self, _: str, __: bytes) -> bytes:
        self.asked += 1
        return messages.encode(RoutesReply(routes=tuple(self.routes)))

    async def change(self, *routes: Route) -> None:
        self.routes = list(routes)
        await self.bus.publish(subjects.ROUTES_WAKE, b"")


@asynccontextmanager
async def orchestrating(hub: FakeHub, *routes: Route) -> AsyncIterator[Orchestrator]:
    """Answer gateways while the context lasts."""
    async with hub.connect(authority.ORCHESTRATOR) as bus:
        there = Orchestrator(bus, list(routes))
        async with bus.serve(subjects.ROUTES, there.answer):
            yield there


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def essence(self) -> tuple[int, str, bytes]:
        """What the contract is about."""
        return self.status, self.headers.get("content-type", ""), self.body

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests as they are, to whatever listens on `port`."""

    port: int

    async def send(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes back until the end."""
        async with asyncio.timeout(LONG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    async def until_it_listens(self) -> None:
        async with asyncio.timeout(LONG_S):
            while True:
                with suppress(ConnectionRefusedError):
                    await self.send(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
                    return
                await asyncio.sleep(0.001)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """Make one request, its target as it is."""
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return parse(await self.send("\r\n".join([*lines, "", ""]).encode()))

    async def call(self, dna: str, app_id: str, fn: str, argument: Any = None) -> Reply:
        """Call a function of the zome `notes`."""
        return await self.ask(f"/{dna}/{app_id}/notes/{fn}?payload={payload(argument)}")


def parse(data: bytes) -> Reply:
    """Return the answer in `data`; a connection that was only closed is status 0."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(int(first.split(" ")[1]) if first else 0, headers, body)


def payload(argument: Any) -> str:
    """Return an argument as it goes into a URL."""
    return encoded(json.dumps(argument).encode())


def encoded(argument: bytes) -> str:
    """Return anything as it goes into a URL."""
    return base64.urlsafe_b64encode(argument).decode()


@dataclass(slots=True, kw_only=True)
class Stand:
    """A gateway that runs, and what is around it."""

    client: Client
    orchestrator: Orchestrator
    hub: FakeHub
    folder: Path

    @property
    def access(self) -> Path:
        """Where hApps are handed over."""
        return self.folder / "access"

    async def declare(self, *routes: Route) -> None:
        """Change the routes, and wait until the gateway knows and keeps them."""
        await self.orchestrator.change(*routes)
        kept, news = self.folder / "gateway/routes.json", RoutesReply(routes=routes)
        await until(lambda: kept.exists() and kept.read_bytes() == messages.encode(news))


@asynccontextmanager
async def running(folder: Path, hub: FakeHub, *, with_host: bool = True) -> AsyncIterator[Client]:
    """Run a gateway while the context lasts; its files and its host's are below `folder`."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        async with hub.connect(authority.GATEWAY) as bus:
            service = gateway.run(
                sockets=[listening],
                folder=folder / "gateway",
                access=folder / "access" if with_host else None,
                host=HERE,
                bus=bus,
                disk=RealDisk(),
                clock=SystemClock(),
            )
            async with beside(service, name="gateway"):
                client = Client(port)
                await client.until_it_listens()
                yield client


@asynccontextmanager
async def standing(folder: Path, *routes: Route, with_host: bool = True) -> AsyncIterator[Stand]:
    """Run a gateway that knows `routes`, with all that is around it."""
    hub = FakeHub()
    async with (
        orchestrating(hub, *routes) as orchestrator,
        running(folder, hub, with_host=with_host) as client,
    ):
        stand = Stand(client=client, orchestrator=orchestrator, hub=hub, folder=folder)
        await stand.declare(*routes)
        yield stand


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)

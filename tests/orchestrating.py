"""An orchestrator for a test, on a hub in memory, and hosts that are played by the test."""

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from msgspec import structs

from hivekeeper.adapters import keys
from hivekeeper.adapters.blobs import FileBlobs
from hivekeeper.adapters.clock import SystemClock
from hivekeeper.aio.beside import beside
from hivekeeper.core import documents
from hivekeeper.model.allocation import Desired, Document, Phase, Report
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.record import ABSENT
from hivekeeper.orchestrator.commands import Command
from hivekeeper.orchestrator.membership import Admit, Door
from hivekeeper.orchestrator.orchestrator import Orchestrator
from hivekeeper.orchestrator.service import Outcome
from hivekeeper.ports import Blobs, Bus, Handler, Store
from hivekeeper.testing.bus import FakeHub
from hivekeeper.testing.clock import FakeClock
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import authority, manifests, messages, subjects
from hivekeeper.wire.authority import User
from hivekeeper.wire.messages import DocumentReply, DocumentRequest, ReportMessage, ReportReply

TOKEN = "a-token-that-only-tests-know"
HOME = HostId("home")
HOME_KEY = keys.public_key(keys.new_seed())
SLEEPER = """
name: sleeper
kind: process
process: {command: [sleep, "1000"]}
"""
DOOR = Door(url="nats://hub.example:4222", seed="SU" + "A" * 56)
T0 = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 20.0


async def eventually(look: Callable[[], Any]) -> Any:
    """Return the first true value of `look`, a function or a coroutine function."""
    found: Any = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not found:
                found = look()
                found = await found if inspect.isawaitable(found) else found
                await asyncio.sleep(0 if found else 0.002)
            return found
    except TimeoutError:
        raise AssertionError(f"never; last seen: {found!r}") from None


class AnyHub(Protocol):
    """A hub to connect to."""

    def connect(self, user: User) -> AbstractAsyncContextManager[Bus]: ...


@dataclass
class Admissions:
    """A hub's list of hosts; refuses to take it while `error` is there."""

    hosts: Mapping[HostId, str] = field(default_factory=dict)
    times: int = 0
    error: Exception | None = None

    async def admit(self, hosts: Mapping[HostId, str]) -> None:
        self.times += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.hosts = dict(hosts)


@dataclass
class Answer:
    """What the API said."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass
class Running:
    """One that runs, and how to talk to it."""

    url: str
    session: aiohttp.ClientSession
    hub: AnyHub

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        """Ask the API anything."""
        headers = {"Authorization": f"Bearer {TOKEN}"} | more.pop("headers", {})
        async with self.session.request(
            method, f"{self.url}{path}", headers=headers, **more
        ) as response:
            is_json = "json" in response.content_type
            body = await (response.json(content_type=None) if is_json else response.read())
            return Answer(response.status, response.headers, body)

    async def get(self, path: str, **query: Any) -> Any:
        """Return what is there."""
        answer = await self.ask(
            "GET", path, params={key: str(value) for key, value in query.items()}
        )
        assert answer.status == 200, answer
        return answer.body

    async def apply(self, manifest: str, path: str = "/v1/workloads", **headers: str) -> Answer:
        """Apply a manifest in YAML."""
        return await self.ask(
            "POST", path, data=manifest, headers={"Content-Type": "application/yaml"} | headers
        )

    async def row(self, name: str) -> Any:
        """Return the only row of a workload."""
        (row,) = await self.get("/v1/allocations", workload=name, all=True)
        return row


@asynccontextmanager
async def orchestrator(
    folder: Path,
    *,
    store: Store | None = None,
    hub: AnyHub | None = None,
    members: Mapping[HostId, str] | None = None,
    door: Door = DOOR,
    admit: Admit | None = None,
) -> AsyncIterator[Running]:
    """Run one while the context lasts; what is not given is made."""
    hub, ready = hub or FakeHub(), asyncio.Event()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with hub.connect(authority.ORCHESTRATOR) as bus, aiohttp.ClientSession() as session:
            made = Orchestrator(
                store=store or MemoryStore(),
                bus=bus,
                blobs=FileBlobs(folder / "blobs"),
                clock=SystemClock(),
                door=door,
                admit=admit or Admissions().admit,
            )
            own = {HOME: HOME_KEY} if members is None else members
            service = made.run([bound], token=TOKEN, members=own, on_ready=ready.set)
            async with beside(service, name="orchestrator"):
                await ready.wait()
                yield Running(url, session, hub)


@dataclass
class PlayedHost:
    """A host agent as the orchestrator sees it; does only what the test says."""

    name: HostId
    bus: Bus
    woken: int = 0
    document: Document | None = None
    replies: list[DocumentReply] = field(default_factory=list)
    number: int = 0

    async def fetch(self) -> DocumentReply:
        """Ask for the document, and store what came."""
        had = self.document
        request = DocumentRequest(
            cluster=had.cluster if had else "",
            epoch=had.epoch if had else 0,
            since=had.version if had else Sequence(0),
        )
        answer = await self.bus.request(
            subjects.document(self.name), messages.encode(request), timeout_s=PATIENCE_S
        )
        reply = messages.decode(answer, DocumentReply)
        self.document = documents.merge(
            had, reply.document, complete=reply.complete, withdrawn=reply.withdrawn
        )
        self.replies.append(reply)
        return reply

    async def report(self, *reports: Report, complete: bool = False, number: int = 0) -> int:
        """Report, and return which number was acknowledged."""
        self.number = number or self.number + 1
        message = ReportMessage(number=self.number, complete=complete, reports=reports)
        answer = await self.bus.request(
            subjects.report(self.name), messages.encode(message), timeout_s=PATIENCE_S
        )
        return messages.decode(answer, ReportReply).number

    def says(self, name: str, phase: Phase, **more: Any) -> Report:
        """Return a report on the order that this host has of a workload."""
        assert self.document is not None
        about = self.document.orders[WorkloadName(name)].allocation
        return structs.replace(
            report(name, phase, generation=about.generation), revision=about.revision, **more
        )


@asynccontextmanager
async def played(hub: AnyHub, name: HostId = HOME) -> AsyncIterator[PlayedHost]:
    """Be a host while the context lasts."""
    async with hub.connect(authority.host(name)) as bus:
        host = PlayedHost(name, bus)

        def wake(_: str) -> None:
            host.woken += 1

        async with bus.subscribe(subjects.wake(name), wake):
            yield host


def report(name: str, phase: Phase, *, generation: int = 1, **more: Any) -> Report:
    """Return a report on an order that the test makes up."""
    return Report(
        workload=WorkloadName(name),
        generation=Generation(generation),
        revision=Revision(1),
        phase=phase,
        since=T0,
        **more,
    )


class RecordingBus:
    """A bus with nobody on it: keeps the subjects of what was published."""

    def __init__(self) -> None:
        self.published: list[str] = []

    async def publish(self, subject: str, payload: bytes) -> None:
        assert payload == b""
        self.published.append(subject)

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        raise TransientError(f"cannot ask {subject}: nobody there ({len(payload)}, {timeout_s})")

    def serve(self, subject: str, handler: Handler) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    def subscribe(
        self, subject: str, on_message: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError


class NoBlobs:
    """Blobs, none of which is there but `known`."""

    def __init__(self, *known: str) -> None:
        self.known = known

    async def size(self, sha256: str) -> int | None:
        return 1 if sha256 in self.known else None

    async def read(self, sha256: str, *, offset: int, limit: int) -> bytes:
        raise NotImplementedError

    async def write(self, sha256: str, pieces: AsyncIterator[bytes]) -> int:
        raise NotImplementedError


@dataclass
class Parts:
    """An orchestrator's parts, none of which runs by itself."""

    made: Orchestrator
    store: MemoryStore
    clock: FakeClock
    bus: RecordingBus
    admissions: Admissions

    async def apply(self, text: str, *, hold: bool = False, **more: Any) -> Outcome:
        """Apply a manifest."""
        (manifest,) = manifests.decode(text.encode(), source="test")
        return await self.made.service.apply(command(**more), manifest, hold=hold)

    async def place(self) -> None:
        """Let placement look at everything once."""
        await self.made.placement.place(
            WorkloadName(name) for name in list(self.made.fleet.workloads.kept)
        )

    async def deliver(self, host: HostId, message: ReportMessage) -> int:
        """Have a host's report taken, and return which number was acknowledged."""
        async with asyncio.TaskGroup() as group:
            intake = group.create_task(self.made.intake.run())
            answer = await self.made.hosts.report(subjects.report(host), messages.encode(message))
            intake.cancel()
        return messages.decode(answer, ReportReply).number

    def wanted(self, name: str) -> bool:
        """Return whether a workload is there and not on its way out."""
        workload = self.made.fleet.workloads.get(name)
        return workload is not None and workload.desired is not Desired.UNINSTALLED

    def rows(self, **more: Any) -> list[tuple[str, str | None, str]]:
        """Return workload, host and word of every row."""
        rows = self.made.view.rows(**more)
        return [(row.workload, row.host, row.actual) for row in rows]

    def told(self) -> list[tuple[str, str]]:
        """Return what happened to workloads, and in which words it is told."""
        return [
            (event.what, event.because)
            for event in self.made.view.events(after=ABSENT)
            if event.workload
        ]


async def parts(
    *hosts: str, store: MemoryStore | None = None, blobs: Blobs | None = None
) -> Parts:
    """Return an orchestrator's parts, with hosts let in."""
    store, clock, bus, admissions = (
        store or MemoryStore(),
        FakeClock(),
        RecordingBus(),
        Admissions(),
    )
    made = Orchestrator(
        store=store,
        bus=bus,
        blobs=blobs or NoBlobs(),
        clock=clock,
        door=DOOR,
        admit=admissions.admit,
    )
    await made.begin({HostId(host): f"key of {host}" for host in hosts})
    return Parts(made, store, clock, bus, admissions)


def command(**more: Any) -> Command:
    """Return a user's write."""
    return Command(**({"actor": "admin", "request_id": "r1"} | more))


def manifest(name: str = "notes", **more: str) -> str:
    """Return a small manifest in YAML; more lines by name."""
    lines = {"name": name, "kind": "process", "process": "{command: [sleep, '1000']}"} | more
    return "\n".join(f"{key}: {value}" for key, value in lines.items())

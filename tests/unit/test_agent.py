"""The host agent on fakes: what it obeys, what it tells, and what it survives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hivekeeper.aio.beside import beside
from hivekeeper.host.agent import Agent
from hivekeeper.host.kinds import Progress
from hivekeeper.host.outbox import Outbox
from hivekeeper.host.state import Folders, Memory, Prepared
from hivekeeper.host.worker import Surroundings
from hivekeeper.model import ids
from hivekeeper.model.allocation import Allocation, Desired, Document, Order, Phase, Report
from hivekeeper.model.errors import HiveError, PermanentError, TransientError
from hivekeeper.model.ids import Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.manifest import Kind, Manifest, Process
from hivekeeper.model.policy import Readiness
from hivekeeper.model.program import ProgramSpec, ProgramStatus
from hivekeeper.ports import Bus
from hivekeeper.testing.bus import FakeHub
from hivekeeper.testing.clock import FakeClock
from hivekeeper.testing.disk import FakeDisk
from hivekeeper.testing.supervisor import FakeSupervisor
from hivekeeper.wire import authority, messages, subjects
from hivekeeper.wire.messages import DocumentReply, DocumentRequest, ReportMessage, ReportReply

HOST = HostId("attic")
NAME = WorkloadName("web")
PROGRAM = ids.workload_program(NAME)


class FakeKind:
    """A kind whose steps succeed, unless the test puts an error in."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.prepared = 0
        self.settled: list[str] = []
        self.handed_out = False
        self.fails: dict[str, HiveError] = {}
        self.held_up = asyncio.Event()
        self.held_up.set()

    async def prepare(self, order: Order, prepared: Prepared, progress: Progress) -> Prepared:
        progress("preparing it")
        await self.held_up.wait()
        self._may("prepare")
        self.prepared += 1
        self.memory.disk.write(self.memory.folders.data(order.manifest.name) / "kept", b"data")
        return replace(prepared, ports={"http": 8000})

    def spec(self, manifest: Manifest, prepared: Prepared) -> ProgramSpec:
        assert manifest.process is not None
        assert prepared.ports
        return ProgramSpec(
            id=ids.workload_program(manifest.name),
            command=manifest.process.command,
            logs="/logs",
            readiness=Readiness(log="ready"),
        )

    async def settle(
        self, order: Order, prepared: Prepared, program: ProgramStatus, progress: Progress
    ) -> dict[str, Any]:
        del order, prepared
        progress("settling it")
        await self.held_up.wait()
        self._may("settle")
        self.settled.append(f"run {program.run}")
        self.handed_out = True
        return {"settled": len(self.settled)}

    def unsettle(self, name: WorkloadName) -> None:
        assert name == NAME
        self.handed_out = False

    def _may(self, step: str) -> None:
        if step in self.fails:
            raise self.fails[step]


@dataclass
class World:
    """A host, and the orchestrator that the test plays."""

    hub: FakeHub = field(default_factory=FakeHub)
    clock: FakeClock = field(default_factory=FakeClock)
    disk: FakeDisk = field(default_factory=FakeDisk)
    document: Document = field(
        default_factory=lambda: Document(cluster="c", epoch=1, version=Sequence(1))
    )
    reports: list[Report] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    requests: list[DocumentRequest] = field(default_factory=list)
    deaf: bool = False

    def __post_init__(self) -> None:
        self.keeper = FakeSupervisor(self.clock)
        self.memory = Memory(self.disk, Folders(root=Path("/host")))
        self.kind = FakeKind(self.memory)

    async def answer(self, subject: str, payload: bytes) -> bytes:
        """What the orchestrator says to document requests and reports."""
        if subject == subjects.report(HOST):
            if self.deaf:
                raise TransientError("not now")
            message = messages.decode(payload, ReportMessage)
            self.numbers.append(message.number)
            self.reports += message.reports
            return messages.encode(ReportReply(number=message.number))
        self.requests.append(messages.decode(payload, DocumentRequest))
        return messages.encode(DocumentReply(complete=True, document=self.document, poll_s=0.02))

    def order(
        self,
        desired: Desired = Desired.RUNNING,
        *,
        revision: int = 1,
        nonce: int = 0,
        purge: bool = False,
    ) -> None:
        """Want this of the workload from now on."""
        version = Sequence(self.document.version + 1)
        allocation = Allocation(
            workload=NAME,
            host=HOST,
            revision=Revision(revision),
            generation=Generation(version),
            desired=desired,
            purge=purge,
            restart_nonce=nonce,
            changed_at=self.clock.now(),
        )
        process = Process(command=("serve", str(revision)))
        manifest = Manifest(name=NAME, kind=Kind.PROCESS, process=process)
        orders = {NAME: Order(allocation=allocation, manifest=manifest)}
        self.document = replace(self.document, version=version, orders=orders)

    def withdraw(self) -> None:
        """Have nothing to say of the workload any more."""
        version = Sequence(self.document.version + 1)
        self.document = replace(self.document, version=version, orders={})

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        """The agent runs while the context lasts; it may be ended and begun again."""
        async with self.hub.connect(authority.host(HOST)) as bus:
            outbox = Outbox(HOST, bus, self.clock, life=self.memory.begin())
            around = Surroundings(
                memory=self.memory,
                supervisor=self.keeper,
                clock=self.clock,
                kinds=lambda _: self.kind,
                report=outbox.put,
            )
            async with beside(Agent(HOST, bus, around, outbox).run(), name="agent"):
                yield

    @asynccontextmanager
    async def orchestrator(self) -> AsyncIterator[Bus]:
        async with (
            self.hub.connect(authority.ORCHESTRATOR) as bus,
            bus.serve(subjects.ANY_DOCUMENT, self.answer),
            bus.serve(subjects.ANY_REPORT, self.answer),
        ):
            yield bus

    async def until(self, check: Callable[[Report], bool]) -> Report:
        """Return the newest report once `check` holds for it."""
        async with asyncio.timeout(10):
            while not (self.reports and check(self.reports[-1])):
                await asyncio.sleep(0.005)
        return self.reports[-1]

    async def phase(self, phase: Phase) -> Report:
        return await self.until(lambda report: report.phase is phase)

    async def runs(self) -> Report:
        """Play the program's part until it is reported ready."""
        await self.until(lambda report: report.pid is not None)
        self.keeper.become_ready(PROGRAM)
        return await self.phase(Phase.READY)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.orchestrator():
        yield world


async def test_an_order_is_prepared_held_settled_and_told(world: World) -> None:
    world.order()
    async with world.agent():
        report = await world.runs()
    assert (report.revision, report.ready_revision, report.ports) == (1, 1, {"http": 8000})
    assert report.facts == {"settled": 1}
    phases = [each.phase for each in world.reports]
    assert phases == sorted(phases, key=[*Phase].index)


async def test_stopped_it_is_held_unwanted_and_what_was_handed_out_is_taken_back(
    world: World,
) -> None:
    world.order()
    async with world.agent():
        await world.runs()
        assert world.kind.handed_out
        world.order(Desired.STOPPED)
        report = await world.phase(Phase.INSTALLED)
    assert report.pid is None
    assert not world.kind.handed_out


async def test_a_program_that_ended_is_settled_again_once_it_is_back(world: World) -> None:
    world.order()
    async with world.agent():
        await world.runs()
        world.keeper.end(PROGRAM, signal="SIGKILL")
        await world.phase(Phase.BACKOFF)
        world.keeper.advance(10)
        report = await world.runs()
    assert world.kind.settled == ["run 1", "run 2"]
    assert report.facts == {"settled": 2}


async def test_begun_again_the_agent_disturbs_nothing_and_settles_nothing_twice(
    world: World,
) -> None:
    world.order()
    async with world.agent():
        before = await world.runs()
    world.reports.clear()
    async with world.agent():
        after = await world.phase(Phase.READY)
    assert (after.pid, after.restarts, after.facts) == (before.pid, before.restarts, before.facts)
    assert [each.phase for each in world.reports] == [Phase.READY]
    assert world.kind.prepared == 1
    assert world.kind.settled == ["run 1"]


async def test_report_numbers_grow_over_lives_of_the_agent(world: World) -> None:
    world.order()
    async with world.agent():
        await world.runs()
    async with world.agent():
        world.order(Desired.STOPPED)
        await world.phase(Phase.INSTALLED)
    assert world.numbers == sorted(set(world.numbers))


async def test_with_everybody_gone_it_works_from_its_disk(world: World) -> None:
    world.order()
    async with world.agent():
        await world.runs()
    world.hub.stop()
    await world.keeper.release(PROGRAM, logs=True)
    async with world.agent(), asyncio.timeout(10):
        while not await world.keeper.status():
            await asyncio.sleep(0.005)
    (program,) = await world.keeper.status()
    assert program.wanted


async def test_what_was_not_stored_is_told_again_and_only_the_newest(world: World) -> None:
    world.deaf = True
    world.order()
    async with world.agent():
        async with asyncio.timeout(10):
            while not await world.keeper.status():
                await asyncio.sleep(0.005)
        world.keeper.become_ready(PROGRAM)
        async with asyncio.timeout(10):
            while not world.kind.settled:
                await asyncio.sleep(0.005)
        world.deaf = False
        await world.phase(Phase.READY)
    assert [each.phase for each in world.reports] == [Phase.READY]


async def test_a_step_that_fails_for_now_is_told_and_tried_again(world: World) -> None:
    world.kind.fails["prepare"] = TransientError("cannot fetch it: not there yet")
    world.order()
    async with world.agent():
        report = await world.phase(Phase.BACKOFF)
        assert report.error == "cannot fetch it: not there yet"
        assert report.retry_at is not None
        world.kind.fails.clear()
        world.clock.advance(60)
        world.order()  # anything that wakes it
        await world.runs()
    assert world.reports[-1].error == ""


async def test_a_step_that_fails_for_good_is_given_up_until_the_order_changes(
    world: World,
) -> None:
    world.kind.fails["settle"] = PermanentError("cannot install it: no", hint="another one")
    world.order()
    async with world.agent():
        await world.until(lambda report: report.pid is not None)
        world.keeper.become_ready(PROGRAM)
        report = await world.phase(Phase.FAILED)
        assert (report.error, report.hint, report.retry_at) == (
            "cannot install it: no",
            "another one",
            None,
        )
        world.kind.fails.clear()
        world.order(revision=2)
        await world.until(lambda report: report.pid is not None and report.generation == 3)
        world.keeper.become_ready(PROGRAM)
        await world.phase(Phase.READY)


async def test_a_newer_order_cuts_off_what_is_being_done_for_an_older_one(world: World) -> None:
    world.kind.held_up.clear()
    world.order()
    async with world.agent():
        await world.until(lambda report: report.doing == "preparing it")
        world.order(Desired.UNINSTALLED, purge=True)
        await world.phase(Phase.GONE)
    assert world.kind.prepared == 0


async def test_a_program_that_ends_while_it_is_settled_is_settled_anew(world: World) -> None:
    world.order()
    async with world.agent():
        await world.until(lambda report: report.pid is not None)
        world.kind.held_up.clear()
        world.keeper.become_ready(PROGRAM)
        await world.until(lambda report: report.doing == "settling it")
        world.keeper.end(PROGRAM, signal="SIGKILL")
        await world.phase(Phase.BACKOFF)
        world.kind.held_up.set()
        world.keeper.advance(10)
        await world.runs()
    assert world.kind.settled == ["run 2"]


async def test_deleted_only_its_data_is_left_and_purged_not_even_that(world: World) -> None:
    world.order()
    folder = world.memory.folders.workload(NAME)
    async with world.agent():
        await world.runs()
        world.order(Desired.UNINSTALLED)
        report = await world.phase(Phase.GONE)
        assert report.data_kept
        assert world.disk.names(folder) == ["data"]
        assert await world.keeper.status() == []
        world.order(Desired.UNINSTALLED, purge=True)
        report = await world.until(lambda report: not report.data_kept)
        assert report.phase is Phase.GONE
    assert world.disk.names(folder) == []


async def test_applied_again_after_it_was_deleted_it_goes_on(world: World) -> None:
    world.order()
    async with world.agent():
        await world.runs()
        world.order(Desired.UNINSTALLED)
        await world.phase(Phase.GONE)
        world.withdraw()
        world.order(revision=2)
        await world.until(lambda report: report.pid is not None)
        await world.runs()
    assert world.reports[-1].revision == 2


async def test_a_restart_that_was_asked_for_happens_once(world: World) -> None:
    world.order()
    async with world.agent():
        first = await world.runs()
        world.order(nonce=1)
        await world.until(lambda report: report.pid not in {None, first.pid})
        world.keeper.become_ready(PROGRAM)
        second = await world.until(
            lambda report: report.phase is Phase.READY and report.pid != first.pid
        )
    async with world.agent():
        await asyncio.sleep(0.05)
    assert world.reports[-1].pid == second.pid


async def test_while_the_keeper_is_away_nothing_is_cleaned_up_under_its_feet(
    world: World,
) -> None:
    world.order()
    async with world.agent():
        await world.runs()
    world.keeper.go_away()
    world.order(Desired.UNINSTALLED, purge=True)
    async with world.agent():
        async with asyncio.timeout(10):
            while world.requests[-1].since != world.document.version:
                await asyncio.sleep(0.005)
        assert world.disk.names(world.memory.folders.data(NAME)) == ["kept"]
        world.keeper.come_back()
        await world.phase(Phase.GONE)
    assert world.disk.names(world.memory.folders.data(NAME)) == []


async def test_a_damaged_document_is_refused_and_not_overwritten(world: World) -> None:
    path = world.memory.folders.document
    world.disk.write(path, b'{"cluster": "c", "ep')
    with pytest.raises(PermanentError, match=r"document\.json"):
        async with world.agent():
            await asyncio.sleep(1)
    assert world.disk.read(path) == b'{"cluster": "c", "ep'


async def test_a_full_disk_refuses_a_new_document_and_keeps_obeying_the_old(
    world: World,
) -> None:
    world.order()
    async with world.agent():
        await world.runs()
        world.disk.full = True
        world.order(Desired.STOPPED)
        await asyncio.sleep(0.1)
        assert world.reports[-1].phase is Phase.READY
        world.disk.full = False
        await world.phase(Phase.INSTALLED)


def test_what_is_prepared_survives_being_written_and_read() -> None:
    prepared = Prepared(generation=Generation(3), ports={"a": 1}, facts={"x": [1, {"y": None}]})
    assert msgspec.json.decode(msgspec.json.encode(prepared), type=Prepared) == prepared

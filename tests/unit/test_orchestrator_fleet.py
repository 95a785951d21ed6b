"""The orchestrator's memory of the store: what it holds is what is stored, whatever goes wrong."""

import asyncio
from collections.abc import Sequence as SequenceOf

import pytest

from hivekeeper.model.allocation import Allocation, Desired, Host
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.ids import Generation, HostId, Revision, Sequence, WorkloadName
from hivekeeper.model.record import ABSENT, AuditEntry, Change, Put, Record, RecordKind
from hivekeeper.orchestrator import records
from hivekeeper.orchestrator.fleet import Fleet, MovedError, Write
from hivekeeper.testing.store import MemoryStore
from orchestrating import T0

HOME, ATTIC = HostId("home"), HostId("attic")
NOTES, TODO = WorkloadName("notes"), WorkloadName("todo")


def host(id_: HostId, key: str = "key") -> Host:
    return Host(id=id_, public_key=key, joined_at=T0)


def allocation(name: WorkloadName, on: HostId, generation: int = 1) -> Allocation:
    return Allocation(
        workload=name,
        host=on,
        revision=Revision(1),
        generation=Generation(generation),
        desired=Desired.RUNNING,
        changed_at=T0,
    )


def place(fleet: Fleet, name: WorkloadName, on: HostId, generation: int = 1) -> Write:
    return fleet.allocations.put(records.placed(on, name), allocation(name, on, generation))


async def store(fleet: Fleet, *writes: Write) -> Sequence:
    async with fleet.turn():
        return await fleet.commit(writes)


class Flaky(MemoryStore):
    """Fails a commit, after it was written or before, and counts how often all is read."""

    def __init__(self) -> None:
        super().__init__()
        self.before: BaseException | None = None
        self.after: BaseException | None = None
        self.lists = 0

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        error, self.before = self.before, None
        if error is not None:
            raise error
        sequence = await super().commit(changes, audit=audit)
        error, self.after = self.after, None
        if error is not None:
            raise error
        return sequence

    async def list(
        self,
        kind: RecordKind,
        *,
        prefix: str = "",
        after: Sequence = ABSENT,
        limit: int | None = None,
    ) -> list[Record]:
        self.lists += 1
        return await super().list(kind, prefix=prefix, after=after, limit=limit)


async def test_what_was_committed_is_there_and_another_one_reads_the_same() -> None:
    kept = MemoryStore()
    fleet, other = Fleet(kept), Fleet(kept)
    sequence = await store(fleet, fleet.hosts.put(HOME, host(HOME)), place(fleet, NOTES, HOME))
    async with other.turn():
        for each in (fleet, other):
            assert each.hosts.get(HOME) == host(HOME)
            assert each.hosts.sequence(HOME) == sequence == each.sequence
            assert [kept.value for kept in each.allocations_of(NOTES)] == [allocation(NOTES, HOME)]


async def test_allocations_are_found_by_workload_and_by_host() -> None:
    fleet = Fleet(MemoryStore())
    await store(
        fleet, place(fleet, TODO, HOME), place(fleet, NOTES, HOME), place(fleet, NOTES, ATTIC)
    )
    assert [kept.value.host for kept in fleet.allocations_of(NOTES)] == [ATTIC, HOME]
    assert [kept.value.workload for kept in fleet.allocations_on(HOME)] == [NOTES, TODO]
    assert (fleet.count_on(HOME), fleet.count_on(ATTIC)) == (2, 1)
    await store(fleet, fleet.allocations.drop(records.placed(HOME, NOTES)))
    assert [kept.value.host for kept in fleet.allocations_of(NOTES)] == [ATTIC]
    assert [kept.value.workload for kept in fleet.allocations_on(HOME)] == [TODO]


async def test_turns_do_not_overlap() -> None:
    fleet, inside = Fleet(MemoryStore()), 0

    async def change(number: int) -> None:
        nonlocal inside
        async with fleet.turn():
            inside += 1
            assert inside == 1
            before = fleet.hosts.get(HOME)
            count = 0 if before is None else int(before.public_key)
            await fleet.commit([fleet.hosts.put(HOME, host(HOME, str(count + number)))])
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(change(1))
    assert fleet.hosts.get(HOME) == host(HOME, "20")


async def test_somebody_else_who_writes_the_store_is_noticed_and_then_seen() -> None:
    kept = MemoryStore()
    fleet = Fleet(kept)
    first = await store(fleet, fleet.hosts.put(HOME, host(HOME, "ours")))
    theirs = b'{"id":"home","public_key":"theirs","joined_at":"2026-01-01T00:00:00Z"}'
    await kept.commit([Put(kind=RecordKind.HOST, key=HOME, expected=first, value=theirs)])
    with pytest.raises(MovedError, match="somebody else writes the store"):
        await store(fleet, fleet.hosts.put(HOME, host(HOME, "ours again")))
    async with fleet.turn():
        assert fleet.hosts.get(HOME) == host(HOME, "theirs")
        await fleet.commit([fleet.hosts.put(HOME, host(HOME, "ours after all"))])
    assert fleet.hosts.get(HOME) == host(HOME, "ours after all")


@pytest.mark.parametrize("error", [TransientError("cut off"), asyncio.CancelledError()])
async def test_after_a_commit_whose_outcome_nobody_knows_all_is_read_again(
    error: BaseException,
) -> None:
    kept = Flaky()
    fleet = Fleet(kept)
    kept.after = error
    with pytest.raises(type(error)):
        await store(fleet, place(fleet, NOTES, HOME))
    assert fleet.allocations_of(NOTES) == []
    async with fleet.turn():
        assert [kept.value for kept in fleet.allocations_of(NOTES)] == [allocation(NOTES, HOME)]


async def test_what_was_not_written_is_not_believed() -> None:
    kept = Flaky()
    fleet = Fleet(kept)
    kept.before = TransientError("the disk is full")
    with pytest.raises(TransientError, match="full"):
        await store(fleet, place(fleet, NOTES, HOME))
    async with fleet.turn():
        assert fleet.allocations_of(NOTES) == []
    await store(fleet, place(fleet, NOTES, HOME))
    assert len(fleet.allocations_of(NOTES)) == 1


async def test_while_all_goes_well_the_store_is_read_once() -> None:
    kept = Flaky()
    fleet = Fleet(kept)
    await store(fleet, place(fleet, NOTES, HOME))
    reads = kept.lists
    for generation in range(2, 5):
        await store(fleet, place(fleet, NOTES, HOME, generation))
    assert kept.lists == reads


async def test_a_record_that_cannot_be_read_is_named() -> None:
    kept = MemoryStore()
    await kept.commit(
        [Put(kind=RecordKind.HOST, key=HOME, expected=Sequence(0), value=b'{"id": 1}')]
    )
    with pytest.raises(PermanentError, match=r"cannot read the stored host `home`: .*id"):
        async with Fleet(kept).turn():
            pass


async def test_readers_can_wait_for_the_next_change() -> None:
    fleet = Fleet(MemoryStore())
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(fleet.news.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        await store(fleet, place(fleet, NOTES, HOME))
        async with asyncio.timeout(1):
            for each in waiting:
                await each

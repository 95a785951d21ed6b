"""Killed at any commit, before it or right after it: the next start finishes what was begun."""

from collections.abc import AsyncIterator
from collections.abc import Sequence as SequenceOf
from typing import Any

import pytest

from hivekeeper.model.allocation import Desired, Phase
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.record import AuditEntry, Change
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import subjects
from hivekeeper.wire.messages import ReportMessage
from orchestrating import Parts, command, manifest, parts, report

HOME, NOTES = HostId("home"), WorkloadName("notes")
KEYED: dict[str, Any] = {"idempotency_key": "k1", "digest": "d1"}


class Killed(BaseException):
    """What a process sees of `kill -9`: nothing goes on."""


class Fatal(MemoryStore):
    """Kills whoever commits the `at`-th time, before it is written or after."""

    def __init__(self, at: int, *, written: bool) -> None:
        super().__init__()
        self.left, self._written = at, written

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        self.left -= 1
        if self.left == 0 and not self._written:
            raise Killed
        sequence = await super().commit(changes, audit=audit)
        if self.left == 0:
            raise Killed
        return sequence


async def confirm(there: Parts, phase: Phase) -> None:
    """Have the host report on whatever it is told, under a number that it did not use yet."""
    heard = there.made.fleet.heard.get(HOME)
    number = 1 if heard is None else heard.number + 1
    reports = tuple(
        report(kept.value.workload, phase, generation=kept.value.generation)
        for kept in there.made.fleet.allocations_on(HOME)
    )
    await there.deliver(HOME, ReportMessage(number=number, reports=reports))


async def life(there: Parts) -> AsyncIterator[None]:
    """Do all that a workload goes through, step by step; each step may be done again."""
    if there.made.fleet.workloads.get(NOTES) is None:
        await there.apply(manifest(), **KEYED)
    yield
    await there.place()
    yield
    if there.wanted("notes"):
        await confirm(there, Phase.READY)
        yield
        await there.made.service.delete(command(), NOTES, purge=True)
    yield
    await there.place()
    yield
    await confirm(there, Phase.GONE)
    yield
    await there.place()


async def live(store: MemoryStore) -> Parts:
    there = await parts("home", store=store)
    async for _ in life(there):
        pass
    return there


async def commits() -> int:
    store = Fatal(0, written=True)
    await live(store)
    return -store.left


@pytest.mark.parametrize("written", [True, False])
async def test_after_a_kill_at_any_commit_the_next_life_ends_with_nothing_left(
    written: bool,  # noqa: FBT001
) -> None:
    count = await commits()
    assert count >= 8
    for at in range(1, count + 1):
        store = Fatal(at, written=written)
        with pytest.raises((Killed, BaseExceptionGroup)):
            await live(store)
        there = await live(store)
        fleet = there.made.fleet
        assert (fleet.workloads.kept, fleet.manifests.kept) == ({}, {}), at
        assert (fleet.allocations.kept, fleet.reports.kept) == ({}, {}), at


@pytest.mark.parametrize("written", [True, False])
async def test_after_a_kill_between_write_and_wake_the_host_still_gets_its_order(
    written: bool,  # noqa: FBT001
) -> None:
    store = Fatal(4, written=written)  # cluster, host, workload, allocation
    with pytest.raises(Killed):
        await live(store)
    again = await parts("home", store=store)
    await again.place()
    answer = await again.made.hosts.document(subjects.document(HOME), b"{}")
    assert b'"notes"' in answer
    (kept,) = again.made.fleet.allocations_of(NOTES)
    assert kept.value.desired is Desired.RUNNING


async def test_a_request_that_was_cut_off_after_its_commit_is_answered_when_it_is_repeated() -> (
    None
):
    store = Fatal(3, written=True)
    with pytest.raises(Killed):
        await live(store)
    there = await parts("home", store=store)
    outcome = await there.apply(manifest(), **KEYED)
    assert outcome.answer.changed
    assert outcome.answer.workload == there.made.fleet.workloads.kept[NOTES].value
    assert len(await store.audit()) == 1

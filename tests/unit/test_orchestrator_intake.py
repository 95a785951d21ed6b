"""Reports: stored before they are acknowledged, once, and believed only about a host's own."""

import asyncio
from collections.abc import Sequence as SequenceOf

import pytest

from hivekeeper.model import limits
from hivekeeper.model.allocation import Phase, Report
from hivekeeper.model.errors import (
    HiveError,
    PermanentError,
    PermissionRefusedError,
    TransientError,
    UserError,
)
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.record import AuditEntry, Change
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.messages import ReportMessage
from orchestrating import Parts, command, manifest, parts, report

HOME, ATTIC = HostId("home"), HostId("attic")


def message(number: int, *reports: Report, complete: bool = False) -> ReportMessage:
    return ReportMessage(number=number, reports=reports, complete=complete)


async def placed(*names: str, store: MemoryStore | None = None) -> Parts:
    """Return an orchestrator that has put workloads on HOME."""
    there = await parts("home", "attic", store=store)
    for name in names:
        await there.apply(manifest(name, placement="{host: home}"))
    await there.place()
    return there


def known(there: Parts, name: str) -> Report | None:
    return there.made.fleet.reports.get(f"home/{name}")


def generation(there: Parts, name: str) -> int:
    (kept,) = there.made.fleet.allocations_of(WorkloadName(name))
    return kept.value.generation


async def test_a_report_is_stored_and_shows() -> None:
    there = await placed("notes")
    said = report("notes", Phase.READY, generation=generation(there, "notes"), pid=42)
    assert await there.deliver(HOME, message(1, said)) == 1
    assert known(there, "notes") == said
    (row,) = there.made.view.rows()
    assert (row.actual, row.pid) == ("running", 42)


async def test_a_number_that_is_not_new_is_acknowledged_and_changes_nothing() -> None:
    there = await placed("notes")
    new, old = report("notes", Phase.READY), report("notes", Phase.STARTING)
    await there.deliver(HOME, message(7, new))
    before = there.made.fleet.sequence
    for number in (7, 6):
        assert await there.deliver(HOME, message(number, old)) == number
    assert (known(there, "notes"), there.made.fleet.sequence) == (new, before)


async def test_numbers_are_remembered_over_a_restart_of_ours() -> None:
    store = MemoryStore()
    there = await placed("notes", store=store)
    await there.deliver(HOME, message(7, report("notes", Phase.READY)))
    again = await parts("home", store=store)
    await again.deliver(HOME, message(7, report("notes", Phase.STARTING)))
    assert known(again, "notes") == report("notes", Phase.READY)


async def test_what_a_host_says_of_what_it_was_never_told_is_ignored() -> None:
    there = await placed("notes")
    for host, name in ((HOME, "stranger"), (ATTIC, "notes")):
        await there.deliver(host, message(1, report(name, Phase.READY)))
    assert there.made.fleet.reports.kept == {}


async def test_the_same_report_again_is_not_written_again() -> None:
    there = await placed("notes")
    said = report("notes", Phase.READY)
    await there.deliver(HOME, message(1, said))
    before = there.made.fleet.reports.sequence("home/notes")
    await there.deliver(HOME, message(2, said))
    assert there.made.fleet.reports.sequence("home/notes") == before


async def test_a_complete_report_takes_back_what_it_does_not_say() -> None:
    there = await placed("notes", "todo")
    both = (report("notes", Phase.READY), report("todo", Phase.READY))
    await there.deliver(HOME, message(1, *both))
    await there.deliver(HOME, message(2, both[0], complete=True))
    assert (known(there, "notes"), known(there, "todo")) == (both[0], None)


async def test_of_two_reports_on_one_workload_the_last_counts() -> None:
    there = await placed("notes")
    said = [report("notes", phase) for phase in (Phase.STARTING, Phase.READY)]
    await there.deliver(HOME, message(1, *said))
    assert known(there, "notes") == said[1]


async def test_a_host_that_left_is_refused() -> None:
    there = await placed("notes")
    await there.made.membership.leave(command(), ATTIC, force=False)
    with pytest.raises(ExceptionGroup) as refused:
        await there.deliver(ATTIC, message(1))
    assert refused.group_contains(PermissionRefusedError)


async def test_what_is_no_report_is_refused_without_harm() -> None:
    there = await placed("notes")
    for payload in (b"", b"{}", b'{"number": 1, "reports": [{}]}', b'{"v": 9, "number": 1}'):
        with pytest.raises(UserError, match="cannot read a ReportMessage"):
            await there.made.hosts.report(subjects.report(HOME), payload)


async def test_facts_that_would_fill_the_store_are_left_out() -> None:
    there = await placed("notes")
    facts = {"long": "x" * 300_000}
    await there.deliver(HOME, message(1, report("notes", Phase.READY, facts=facts)))
    stored = known(there, "notes")
    assert stored is not None
    assert (stored.phase, stored.facts) == (Phase.READY, {})


async def test_an_endless_error_is_cut() -> None:
    there = await placed("notes")
    await there.deliver(HOME, message(1, report("notes", Phase.BACKOFF, error="x" * 100_000)))
    stored = known(there, "notes")
    assert stored is not None
    assert len(stored.error) == 16_384


class Slow(MemoryStore):
    """Lets a test hold commits back, counts them, and fails them."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.commits: list[int] = []
        self.error: HiveError | None = None

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        await self.open.wait()
        self.commits.append(len(changes))
        error, self.error = self.error, None
        if error is not None:
            raise error
        return await super().commit(changes, audit=audit)


async def test_what_comes_during_a_commit_is_one_commit_of_many_hosts() -> None:
    store = Slow()
    there = await placed("notes", store=store)
    store.open.clear()
    store.commits.clear()
    async with asyncio.TaskGroup() as group:
        intake = group.create_task(there.made.intake.run())
        group.create_task(there.made.intake.take(HOME, message(1)))
        await asyncio.sleep(0.001)
        waiting = [
            group.create_task(there.made.intake.take(host, message(number)))
            for host in (HOME, ATTIC)
            for number in (2, 3)
        ]
        await asyncio.sleep(0.001)
        store.open.set()
        for each in waiting:
            await each
        intake.cancel()
    assert store.commits == [1, 2, 2]


@pytest.mark.parametrize("error", [TransientError("the disk is full"), PermanentError("broken")])
async def test_what_could_not_be_stored_is_not_acknowledged_and_can_be_said_again(
    error: HiveError,
) -> None:
    store = Slow()
    there = await placed("notes", store=store)
    said = message(1, report("notes", Phase.READY))
    async with asyncio.TaskGroup() as group:
        intake = group.create_task(there.made.intake.run())
        store.error = error
        with pytest.raises(type(error)):
            await there.made.intake.take(HOME, said)
        await there.made.intake.take(HOME, said)
        intake.cancel()
    assert known(there, "notes") == said.reports[0]


async def test_a_full_message_fits_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALLOCATIONS_PER_HOST", 5)
    store = Slow()
    names = [f"w{number}" for number in range(5)]
    there = await placed(*names, store=store)
    monkeypatch.setattr(limits, "COMMIT_CHANGES", 10)
    store.commits.clear()
    said = [report(name, Phase.READY, generation=generation(there, name)) for name in names]
    async with asyncio.TaskGroup() as group:
        intake = group.create_task(there.made.intake.run())
        takes = [
            group.create_task(there.made.intake.take(HOME, message(1, *said))),
            group.create_task(there.made.intake.take(ATTIC, message(1))),
        ]
        for each in takes:
            await each
        intake.cancel()
    assert store.commits == [10, 1]
    assert all(known(there, name) for name in names)


async def test_only_what_is_gone_makes_placement_look(monkeypatch: pytest.MonkeyPatch) -> None:
    there = await placed("notes", "todo")
    looked: list[set[WorkloadName]] = []
    monkeypatch.setattr(there.made.intake, "_look", looked.append)
    await there.deliver(HOME, message(1, report("notes", Phase.GONE), report("todo", Phase.READY)))
    assert looked == [{"notes"}]


async def test_messages_survive_their_way_as_they_are() -> None:
    there = await placed("notes")
    said = message(1, report("notes", Phase.READY, facts={"dna_hashes": {"notes": "uhC0k"}}))
    await there.made.hosts.document(subjects.document(HOME), b"{}")
    assert await there.deliver(HOME, said) == 1
    assert messages.encode(said.reports[0]) == messages.encode(known(there, "notes") or said)

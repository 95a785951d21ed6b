"""Placement as a loop: allocations are stored whole, hosts are woken, and nothing is forgotten."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from collections.abc import Sequence as SequenceOf
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from hivekeeper.adapters import keys
from hivekeeper.model import limits
from hivekeeper.model.allocation import Phase
from hivekeeper.model.errors import TransientError
from hivekeeper.model.ids import HostId, Sequence, WorkloadName
from hivekeeper.model.record import AuditEntry, Change
from hivekeeper.testing.store import MemoryStore
from hivekeeper.wire import invitations, manifests, subjects
from hivekeeper.wire.messages import JoinRequest, ReportMessage
from orchestrating import NoBlobs, Parts, command, eventually, manifest, parts, report

HOME = HostId("home")
NOTES = WorkloadName("notes")
SHA256 = "a" * 64
HAPP = f"""
name: chat
kind: holochain
holochain: {{happ: 'blob:{SHA256}'}}
gateway: {{functions: ['chat/*']}}
"""


@pytest.fixture(autouse=True)
def no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens here happens because somebody was told."""
    monkeypatch.setattr(limits, "RECONCILE_S", 3600.0)


@asynccontextmanager
async def placing(there: Parts) -> AsyncIterator[None]:
    """Let placement run by itself while the context lasts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(there.made.placement.run())
        try:
            yield
        finally:
            task.cancel()


async def test_what_is_applied_is_placed_and_its_host_woken_without_waiting_for_a_timer() -> None:
    there = await parts("home")
    async with placing(there):
        await asyncio.sleep(0.01)
        await there.apply(manifest())
        await eventually(lambda: subjects.wake(HOME) in there.bus.published)
    assert there.rows() == [("notes", "home", "assigned")]
    assert there.told()[-1] == ("placed", "placed on home: it has the fewest workloads (0)")


async def test_what_was_stored_before_a_crash_is_placed_at_the_next_start() -> None:
    store = MemoryStore()
    await (await parts("home", store=store)).apply(manifest())
    again = await parts("home", store=store)
    async with placing(again):
        await eventually(lambda: again.bus.published)
    assert again.rows() == [("notes", "home", "assigned")]


async def test_what_nobody_was_told_of_is_found_by_the_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RECONCILE_S", 0.01)
    there = await parts("home")
    monkeypatch.setattr(there.made.service, "_look", lambda _: None)
    async with placing(there):
        await asyncio.sleep(0.005)
        await there.apply(manifest())
        await eventually(lambda: there.bus.published)


async def test_only_what_was_named_is_looked_at_once_all_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = await parts("home")
    for name in ("a", "b", "c"):
        await there.apply(manifest(name))
    looked: list[list[WorkloadName]] = []

    async def place(names: Iterable[WorkloadName]) -> None:
        looked.extend([found] if (found := list(names)) else [])

    monkeypatch.setattr(there.made.placement, "place", place)
    async with placing(there):
        await eventually(lambda: looked)
        await there.made.service.run(command(), WorkloadName("b"), "stop")
        await eventually(lambda: len(looked) > 1)
    assert looked == [["a", "b", "c"], ["b"]]


async def test_workloads_spread_over_hosts_and_each_is_placed_once() -> None:
    there = await parts("home", "attic", "barn")
    for number in range(9):
        await there.apply(manifest(f"w{number}"))
    for _ in range(2):
        await there.place()
    counts = [there.made.fleet.count_on(HostId(host)) for host in ("home", "attic", "barn")]
    assert counts == [3, 3, 3]


async def test_once_all_is_as_it_should_be_nothing_is_written_and_nobody_woken() -> None:
    there = await parts("home")
    await there.apply(manifest())
    await there.place()
    sequence, published = there.made.fleet.sequence, list(there.bus.published)
    await there.place()
    assert (there.made.fleet.sequence, there.bus.published) == (sequence, published)


async def test_without_a_host_a_workload_says_why_and_is_placed_when_one_joins() -> None:
    there = await parts()
    await there.apply(manifest())
    await there.place()
    (row,) = there.made.view.rows()
    assert (row.host, row.actual) == (None, "reported")
    assert row.payload == {"reason": "no host was heard of; it is placed once one is"}
    async with placing(there):
        await asyncio.sleep(0.001)
        invited = await there.made.membership.invite(command(), HOME)
        token = invitations.decode(invited.invitation).token
        key = keys.public_key(keys.new_seed())
        await there.made.membership.join(JoinRequest(token=token, public_key=key))
        await eventually(lambda: there.rows() == [("notes", "home", "assigned")])


async def test_a_held_workload_is_placed_when_it_is_assigned() -> None:
    there = await parts("home")
    await there.apply(manifest(), hold=True)
    await there.place()
    (row,) = there.made.view.rows()
    assert row.payload == {"reason": "it is held: `hive assign notes HOST` places it"}
    await there.made.service.assign(command(), NOTES, HOME)
    await there.place()
    assert there.rows() == [("notes", "home", "assigned")]


async def test_an_order_follows_its_workload() -> None:
    there = await parts("home")
    await there.apply(manifest())
    await there.place()
    await there.apply(manifest(restart="{max_retries: 7}"))
    await there.made.service.run(command(), NOTES, "restart")
    await there.place()
    (kept,) = there.made.fleet.allocations_of(NOTES)
    workload = there.made.fleet.workloads.kept[NOTES].value
    told = (kept.value.revision, kept.value.generation, kept.value.restart_nonce)
    assert told == (2, workload.generation, 1)


async def test_what_is_purged_leaves_nothing_in_the_store() -> None:
    there = await parts("home")
    await there.apply(manifest())
    await there.apply(manifest(restart="{max_retries: 7}"))
    await there.place()
    await there.made.service.delete(command(), NOTES, purge=True)
    await there.place()
    (kept,) = there.made.fleet.allocations_of(NOTES)
    gone = report("notes", Phase.GONE, generation=kept.value.generation)
    await there.deliver(HOME, ReportMessage(number=1, reports=(gone,)))
    assert there.rows(everything=True) == [("notes", "home", "uninstalled")]
    await there.place()
    fleet = there.made.fleet
    for table in (fleet.workloads, fleet.manifests, fleet.allocations, fleet.reports):
        assert table.kept == {}
    assert there.told()[-1] == ("forgotten", "nothing of it is left")


async def test_what_is_deleted_with_its_data_kept_is_shown_only_to_who_asks_for_all() -> None:
    there = await parts("home")
    await there.apply(manifest())
    await there.place()
    await there.made.service.delete(command(), NOTES, purge=False)
    await there.place()
    (kept,) = there.made.fleet.allocations_of(NOTES)
    gone = report("notes", Phase.GONE, generation=kept.value.generation, data_kept=True)
    await there.deliver(HOME, ReportMessage(number=1, reports=(gone,)))
    await there.place()
    assert there.rows() == []
    (row,) = there.made.view.rows(everything=True)
    assert (row.actual, row.payload) == ("uninstalled", {"data_kept": True})


async def test_gateways_hear_of_happs_and_not_of_processes() -> None:
    there = await parts("home", blobs=NoBlobs(SHA256))
    await there.apply(manifest())
    await there.place()
    assert subjects.ROUTES_WAKE not in there.bus.published
    await there.apply(HAPP)
    await there.place()
    assert subjects.ROUTES_WAKE in there.bus.published
    (route,) = there.made.view.routes().routes
    said = (route.app_id, route.workload, route.host, route.functions)
    assert said == ("chat", "chat", "home", ("chat/*",))
    await there.made.service.delete(command(), WorkloadName("chat"), purge=False)
    await there.place()
    assert there.made.view.routes().routes == ()


class Flaky(MemoryStore):
    """Fails some commits, and counts them all."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.sizes: list[int] = []

    async def commit(
        self, changes: SequenceOf[Change], *, audit: AuditEntry | None = None
    ) -> Sequence:
        self.sizes.append(len(changes))
        if self.failures:
            self.failures -= 1
            raise TransientError("the disk is full", retry_after_s=0.001)
        return await super().commit(changes, audit=audit)


async def test_what_could_not_be_stored_is_tried_again() -> None:
    store = Flaky()
    there = await parts("home", store=store)
    await there.apply(manifest())
    store.failures = 2
    async with placing(there):
        await eventually(lambda: there.bus.published)
    assert there.rows() == [("notes", "home", "assigned")]


async def test_many_workloads_are_placed_in_commits_that_others_come_in_between() -> None:
    store = Flaky()
    there = await parts("home", store=store)
    (one,) = manifests.decode(manifest().encode(), source="test")
    for number in range(300):
        named = structs.replace(one, name=WorkloadName(f"w{number}"))
        await there.made.service.apply(command(), named, hold=False)
    store.sizes.clear()
    await there.place()
    assert sum(store.sizes) == 300 * 2 + len(store.sizes)
    assert max(store.sizes) <= 502


async def test_one_host_gets_no_more_orders_in_a_commit_than_fit_a_message() -> None:
    store = Flaky()
    there = await parts("home", "attic", store=store)
    long = "{command: [sleep, '" + "x" * 100_000 + "']}"
    for number in range(6):
        await there.apply(manifest(f"w{number}", process=long, placement="{host: home}"))
    store.sizes.clear()
    await there.place()
    assert store.sizes == [5, 5, 5]
    assert there.made.fleet.count_on(HOME) == 6
